"""Transforms that keep parameters within their constraints during a search.

A search moves unconstrained coordinates u; the model only ever sees w = transform(u).
"""

from typing import Any

from keras import ops

from keras_extras._core.checks import check_number
from keras_extras._core.registration import serializable


class Transform:
    """Base class: a function from search coordinates to allowed values of the same shape.

    A subclass implements `__call__`, `inverse` unless allowed values are their own coordinates,
    and `get_config` for its arguments.
    """

    def __call__(self, coordinates: Any) -> Any:
        """Returns the values that the model sees."""
        raise NotImplementedError

    def inverse(self, values: Any) -> Any:
        """Returns coordinates for allowed values; where a search goes on from given weights."""
        return values

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Transform":
        return cls(**config)


@serializable
class Bounds(Transform):
    """Keeps values in `[lower, upper]` by reflecting the coordinates at the bounds.

    Reflection keeps distances, so `sigma` means the same everywhere, and the search is not
    drawn to the border as it would be by clipping.

    Args:
        lower: Float or `None` for no lower bound. Defaults to `None`.
        upper: Float above `lower` or `None` for no upper bound. Defaults to `None`.
    """

    def __init__(self, lower: float | None = None, upper: float | None = None):
        if lower is None and upper is None:
            raise ValueError("`lower` or `upper` must be given. Received: lower=None, upper=None")
        self.lower = None if lower is None else check_number("lower", lower)
        above = {} if lower is None else {"above": self.lower}
        self.upper = None if upper is None else check_number("upper", upper, **above)

    def __call__(self, coordinates: Any) -> Any:
        if self.upper is None:
            return self.lower + ops.abs(coordinates - self.lower)
        if self.lower is None:
            return self.upper - ops.abs(self.upper - coordinates)
        width = self.upper - self.lower
        phase = ops.mod(coordinates - self.lower, 2 * width)
        return self.lower + width - ops.abs(phase - width)

    def get_config(self) -> dict[str, Any]:
        return {"lower": self.lower, "upper": self.upper}


@serializable
class Positive(Transform):
    """Keeps values above zero: w = log(1 + exp(u))."""

    def __call__(self, coordinates: Any) -> Any:
        return ops.softplus(coordinates)

    def inverse(self, values: Any) -> Any:
        values = ops.maximum(values, 1e-6)
        return values + ops.log(-ops.expm1(-values))


@serializable
class Integer(Transform):
    """Rounds values to whole numbers, while the coordinates move continuously."""

    def __call__(self, coordinates: Any) -> Any:
        return ops.round(coordinates)
