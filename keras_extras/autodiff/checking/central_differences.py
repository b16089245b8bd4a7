"""Derivatives of a function of one number by differences, and what they say of another's."""

import math
from collections.abc import Callable

# Rounding errors of a function's value, in units of its last place.
_ROUNDING = 16


def compare_with_differences(
    function: Callable[[float], float],
    analytic: float,
    step: float,
    epsilon: float,
    tolerance: float,
) -> tuple[float, float, bool]:
    """Compares a derivative at 0 with central differences.

    A kink close by spoils a difference over a large step, so that smaller steps are tried as well,
    without the allowance for rounding, which would grow.

    Args:
        function: Function of a number.
        analytic: Float, its derivative at 0, as it is claimed.
        step: Float, the distance to both sides.
        epsilon: Float, the relative rounding error of values.
        tolerance: Float, the greatest error that passes.

    Returns:
        The derivative by differences, the relative error, and whether there is a kink at 0 with
        the claimed derivative between the slopes to both sides.
    """
    here = function(0.0)
    best, gaps = (math.nan, math.inf), []
    for size in (step, step / 10, step / 100):
        above, below = function(size), function(-size)
        numeric = (above - below) / (2 * size)
        rounding = _ROUNDING * epsilon * max(abs(above), abs(below), abs(here)) / size
        allowance = rounding / tolerance if size == step else 0.0
        scale = max(abs(analytic), abs(numeric), allowance)
        error = float(abs(analytic - numeric) / scale) if scale else 0.0
        if error < best[1]:
            best = (numeric, error)
        if best[1] <= tolerance:
            return *best, False
        slopes = sorted([(above - here) / size, (here - below) / size])
        gaps.append(slopes[1] - slopes[0])
    # The gap between the slopes of a smooth function shrinks with the step.
    stays = gaps[-1] > max(gaps[0] / 2, tolerance * max(map(abs, slopes)) + 2 * rounding)
    is_between = slopes[0] - rounding <= analytic <= slopes[1] + rounding
    return *best, stays and is_between


def has_steps(function: Callable[[float], float], epsilon: float) -> bool:
    """Whether a function that differs at 0 and 1 jumps in between, found by bisection.

    Args:
        function: Function of a number.
        epsilon: Float, the relative rounding error of values.
    """
    low, high = 0.0, 1.0
    values = function(low), function(high)
    while high - low > 4 * epsilon:
        middle = (low + high) / 2
        value = function(middle)
        if abs(value - values[0]) > abs(values[1] - value):
            high, values = middle, (values[0], value)
        else:
            low, values = middle, (value, values[1])
    return abs(values[1] - values[0]) > math.sqrt(epsilon) * max(map(abs, values))
