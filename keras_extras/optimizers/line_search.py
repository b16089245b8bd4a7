"""A line search for the strong Wolfe conditions, on few evaluations."""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

_SUFFICIENT_DECREASE = 1e-4
_CURVATURE = 0.9
_MAX_EVALUATIONS = 25
_ROUNDING = 10.0  # in units of the last place of the loss


class LineSearchResult(NamedTuple):
    """Where a line search ended.

    Attributes:
        step: Scalar, how far along the direction; 0 if no lower loss was found.
        value: Scalar, the loss there.
        gradient: Vector, the gradient there.
        evaluations: Scalar, how often loss and gradient were evaluated.
    """

    step: Any
    value: Any
    gradient: Any
    evaluations: Any


def strong_wolfe(
    value_and_gradient: Callable[[Any], tuple[Any, Any]],
    point: Any,
    direction: Any,
    value: Any,
    gradient: Any,
    first_step: Any,
    epsilon: float,
    longest: Any = None,
) -> LineSearchResult:
    """Finds a step t along p with f(t) <= f(0) + 1e-4 t f'(0) and |f'(t)| <= 0.9 |f'(0)|.

    Algorithms 3.5 and 3.6 of Nocedal and Wright in one loop: `low` is the best step so far and
    `high` the other end of an interval that holds steps that meet the conditions, infinite as long
    as none is known; the next trial is the minimum of the cubic through both ends. Where a
    decrease would be lost in rounding, slopes decide (the approximate Wolfe conditions of Hager
    and Zhang). A loss that is not finite counts as too high. It mostly takes one evaluation, where
    TFP's search by Hager and Zhang's method takes three.

    Args:
        value_and_gradient: Function from a vector to its loss and gradient.
        point: Vector, where the search starts.
        direction: Vector along which the loss falls.
        value: Scalar, the loss at `point`.
        gradient: Vector, the gradient at `point`.
        first_step: Scalar, the step to try first.
        epsilon: Float, the relative distance of neighboring numbers of this precision.
        longest: Scalar, the longest step, at which the second condition need not hold if the loss
            still falls there; `None` for none. Defaults to `None`.

    References:
        Nocedal and Wright (2006), "Numerical optimization", 2nd edition, section 3.5.
        Hager and Zhang (2005), "A new conjugate gradient method with guaranteed descent and an
        efficient line search".
    """
    slope = ops.sum(gradient * direction)
    rounding = _ROUNDING * epsilon * ops.abs(value)
    zero = ops.zeros_like(value)
    start = zero, value, slope

    def is_searching(count, is_done, trial, low, high, low_gradient):
        return ops.logical_and(~is_done, count < _MAX_EVALUATIONS)

    def try_step(count, is_done, trial, low, high, low_gradient):
        trial_value, trial_gradient = value_and_gradient(point + trial * direction)
        trial_slope = ops.sum(trial_gradient * direction)
        is_finite = ops.logical_and(ops.isfinite(trial_value), ops.isfinite(trial_slope))
        falls = trial_value <= value + _SUFFICIENT_DECREASE * trial * slope
        falls_by_slope = ops.logical_and(
            trial_value <= value + rounding,
            trial_slope <= (2.0 * _SUFFICIENT_DECREASE - 1.0) * slope,
        )
        is_lower = is_finite & (falls | falls_by_slope) & (trial_value <= low[1] + rounding)
        is_flat = ops.abs(trial_slope) <= -_CURVATURE * slope
        if longest is not None:
            is_flat |= (trial >= longest) & (trial_slope < 0.0)
        here = trial, trial_value, trial_slope
        turns = trial_slope * (high[0] - low[0]) >= 0.0
        new_high = _where(is_lower, _where(turns, low, high), here)
        new_low = _where(is_lower, here, low)
        next_trial = ops.where(
            ops.isfinite(new_high[0]),
            _interpolated(new_low, new_high),
            _extrapolated(low, new_low),
        )
        if longest is not None:
            next_trial = ops.minimum(next_trial, longest)
        return (
            count + 1,
            is_lower & is_flat,
            next_trial,
            new_low,
            new_high,
            ops.where(is_lower, trial_gradient, low_gradient),
        )

    infinite = ops.full_like(value, float("inf"))
    count, _, _, low, _, low_gradient = ops.while_loop(
        is_searching,
        try_step,
        (
            ops.zeros((), "int32"),
            ops.zeros((), "bool"),
            first_step,
            start,
            (infinite, infinite, zero),
            gradient,
        ),
    )
    return LineSearchResult(low[0], low[1], low_gradient, count)


def _where(condition, ours, theirs):
    return tuple(ops.where(condition, one, other) for one, other in zip(ours, theirs))


def _interpolated(low, high):
    """The minimum of the cubic through two points, kept away from both; else their middle."""
    (a, value_a, slope_a), (b, value_b, slope_b) = low, high
    width = b - a
    d1 = slope_a + slope_b - 3.0 * (value_b - value_a) / width
    d2 = ops.sign(width) * ops.sqrt(d1**2 - slope_a * slope_b)
    share = 1.0 - (slope_b + d2 - d1) / (slope_b - slope_a + 2.0 * d2)
    share = ops.where(ops.isfinite(share), ops.clip(share, 0.1, 0.9), 0.5)
    return a + share * width


def _extrapolated(last, low):
    """Where the slope would vanish if it went on like this, at 2 to 5 times the last stride."""
    stride = low[0] - last[0]
    factor = low[2] / (last[2] - low[2])
    factor = ops.where(factor > 0.0, ops.clip(factor, 1.0, 4.0), 4.0)
    return low[0] + factor * stride
