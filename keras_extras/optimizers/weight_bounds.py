"""WeightBounds: constraints that are boxes, as bounds of the vector of all weights."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

_ROUNDING = 4.0  # in units of the last place


class WeightBounds:
    """A box that the weights stay in.

    Args:
        lower: Array of the lower bounds.
        upper: Array of the upper bounds.
        dtype: String, that of vectors of weights.
    """

    def __init__(self, lower: np.ndarray, upper: np.ndarray, dtype: str):
        self._lower, self._upper = lower.astype(dtype), upper.astype(dtype)
        self._dtype = dtype

    def inside(self, point: Any) -> Any:
        """Returns the nearest vector inside, on a bound where only rounding is between."""
        lower, upper = self._ends()
        rounding = _ROUNDING * float(np.finfo(self._dtype).eps)
        point = ops.where(point <= lower + rounding * ops.abs(lower), lower, point)
        return ops.where(point >= upper - rounding * ops.abs(upper), upper, point)

    def is_free(self, point: Any, gradient: Any) -> Any:
        """Returns which entries may follow the gradient down, 1 or 0."""
        lower, upper = self._ends()
        is_held = ((point <= lower) & (gradient > 0.0)) | ((point >= upper) & (gradient < 0.0))
        return ops.cast(~is_held, self._dtype)

    def longest(self, point: Any, direction: Any) -> Any:
        """Returns how far along a direction the box goes, at least 1."""
        lower, upper = self._ends()
        end = ops.where(direction > 0.0, upper, lower)
        is_still = direction == 0.0
        steps = (end - point) / ops.where(is_still, 1.0, direction)
        return ops.maximum(1.0, ops.min(ops.where(is_still, float("inf"), steps)))

    def _ends(self):
        return ops.convert_to_tensor(self._lower), ops.convert_to_tensor(self._upper)


def bounds_of(variables: Sequence[keras.Variable], dtype: str) -> WeightBounds | None:
    """Returns the bounds of variables, or `None` if none has a constraint."""
    if all(v.constraint is None for v in variables):
        return None
    ends = [_ends_of(v.constraint) for v in variables]
    sizes = [math.prod(v.shape) for v in variables]
    lower, upper = (np.repeat(side, sizes) for side in zip(*ends))
    return WeightBounds(lower, upper, dtype)


def is_box(constraint: Any) -> bool:
    """Returns whether a constraint bounds each entry alone, or is `None`."""
    return constraint is None or _ends_of(constraint) is not None


def _ends_of(constraint):
    if constraint is None:
        return -math.inf, math.inf
    # A subclass may do anything.
    if type(constraint) is keras.constraints.NonNeg:
        return 0.0, math.inf
    # Of `keras_extras.constraints.Box`.
    return getattr(constraint, "bounds", None)
