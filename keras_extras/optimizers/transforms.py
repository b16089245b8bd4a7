"""Transforms that keep parameters within their constraints during a search.

A search moves unconstrained coordinates u; the model only ever sees w = transform(u).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_extras._core.checks import check_bounds, check_number
from keras_extras._core.registration import serializable


class Transform:
    """Base class: a function from search coordinates to allowed values of the same shape.

    A subclass implements `__call__`, `inverse` unless allowed values are their own coordinates,
    `ends` unless each entry is a monotone function of its own coordinate, and `get_config` for its
    arguments. If values change in steps, its attribute `grid` is the distance of coordinates from
    one step to the next, which candidates then reach at any `sigma`.

    Example:

    ```python
    import keras
    from keras_extras.optimizers import MonteCarloOptimizer, transforms

    @keras.saving.register_keras_serializable()
    class Even(transforms.Transform):
        grid = 1.0

        def __call__(self, coordinates):
            return 2.0 * keras.ops.round(coordinates)

        def inverse(self, values):
            return values / 2.0

    optimizer = MonteCarloOptimizer(transforms={"*/kernel": Even()})
    ```
    """

    grid: float | None = None

    def __call__(self, coordinates: Any) -> Any:
        """Returns the values that the model sees."""
        raise NotImplementedError

    def inverse(self, values: Any) -> Any:
        """Returns coordinates for allowed values; where a search goes on from given weights."""
        return values

    def ends(self, coordinates: Any, distance: Any) -> tuple[Any, Any]:
        """Returns lower and upper ends of the values of coordinates known up to a distance."""
        one, other = self(coordinates - distance), self(coordinates + distance)
        return ops.minimum(one, other), ops.maximum(one, other)

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

    Example:

    ```python
    import numpy as np
    from keras_extras.optimizers import MonteCarloOptimizer, transforms

    transform = transforms.Bounds(0.0, 1.0)
    transform(np.array([0.25, 1.25], "float32"))  # [0.25, 0.75]: reflected
    optimizer = MonteCarloOptimizer(transforms={"*/kernel": transform})
    ```
    """

    def __init__(self, lower: float | None = None, upper: float | None = None):
        self.lower, self.upper = check_bounds(lower, upper)

    def __call__(self, coordinates: Any) -> Any:
        if self.upper is None:
            return self.lower + ops.abs(coordinates - self.lower)
        if self.lower is None:
            return self.upper - ops.abs(self.upper - coordinates)
        width = self.upper - self.lower
        phase = ops.mod(coordinates - self.lower, 2 * width)
        return self.lower + width - ops.abs(phase - width)

    def ends(self, coordinates: Any, distance: Any) -> tuple[Any, Any]:
        # Between the bounds reflection keeps distances; beyond them there is nothing.
        values = self(coordinates)
        lower, upper = values - distance, values + distance
        if self.lower is not None:
            lower = ops.maximum(lower, self.lower)
        if self.upper is not None:
            upper = ops.minimum(upper, self.upper)
        return lower, upper

    def get_config(self) -> dict[str, Any]:
        return {"lower": self.lower, "upper": self.upper}


@serializable
class Positive(Transform):
    """Keeps values above zero: w = log(1 + exp(u)).

    Example:

    ```python
    import numpy as np
    from keras_extras.optimizers import MonteCarloOptimizer, transforms

    transform = transforms.Positive()
    transform(np.array([-1.0, 1.0], "float32"))  # [0.31, 1.31]
    optimizer = MonteCarloOptimizer(transforms={"*/kernel": transform})
    ```
    """

    def __call__(self, coordinates: Any) -> Any:
        return ops.softplus(coordinates)

    def inverse(self, values: Any) -> Any:
        values = ops.maximum(values, 1e-6)
        return values + ops.log(-ops.expm1(-values))


@serializable
class Integer(Transform):
    """Rounds values to whole numbers, while the coordinates move continuously.

    Example:

    ```python
    import numpy as np
    from keras_extras.optimizers import MonteCarloOptimizer, transforms

    transform = transforms.Integer()
    transform(np.array([0.4, 1.6], "float32"))  # [0., 2.]
    optimizer = MonteCarloOptimizer(transforms={"*/kernel": transform})
    ```
    """

    grid = 1.0

    def __call__(self, coordinates: Any) -> Any:
        return ops.round(coordinates)


class _Coupled(Transform):
    """Values that are no functions of their own coordinates alone, and have no intervals."""

    def ends(self, coordinates: Any, distance: Any) -> tuple[Any, Any]:
        infinite = ops.full_like(coordinates, float("inf"))
        return -infinite, infinite


@serializable
class Simplex(_Coupled):
    """Keeps the entries along the last axis positive with sum 1, as shares: w = softmax(u).

    Steps near the border are small in w, so that a share of exactly 0 is approached, not reached.

    Example:

    ```python
    import numpy as np
    from keras_extras.optimizers import MonteCarloOptimizer, transforms

    transform = transforms.Simplex()
    transform(np.array([0.0, 0.0], "float32"))  # [0.5, 0.5]
    optimizer = MonteCarloOptimizer(transforms={"*/kernel": transform})
    ```
    """

    def __call__(self, coordinates: Any) -> Any:
        return ops.softmax(coordinates, axis=-1)

    def inverse(self, values: Any) -> Any:
        return ops.log(ops.maximum(values, 1e-6))


@serializable
class Ordered(_Coupled):
    """Keeps the entries along the last axis in ascending order.

    The first is free, and each other is the one before it plus log(1 + exp(u)). Equal entries are
    approached, not reached.

    Example:

    ```python
    import numpy as np
    from keras_extras.optimizers import MonteCarloOptimizer, transforms

    transform = transforms.Ordered()
    transform(np.array([1.0, -1.0, 0.0], "float32"))  # [1., 1.31, 2.01]
    optimizer = MonteCarloOptimizer(transforms={"*/kernel": transform})
    ```
    """

    def __call__(self, coordinates: Any) -> Any:
        first, others = coordinates[..., :1], coordinates[..., 1:]
        return ops.cumsum(ops.concatenate([first, ops.softplus(others)], axis=-1), axis=-1)

    def inverse(self, values: Any) -> Any:
        steps = Positive().inverse(values[..., 1:] - values[..., :-1])
        return ops.concatenate([values[..., :1], steps], axis=-1)


@serializable
class OneHot(_Coupled):
    """Chooses one of the categories along the last axis: 1 for the greatest coordinate, 0 else.

    The coordinates are scores of the categories. The loss does not change unless a candidate
    crosses to another category; candidates lie at least 1 away, the distance of given values.

    Example:

    ```python
    import numpy as np
    from keras_extras.optimizers import MonteCarloOptimizer, transforms

    transform = transforms.OneHot()
    transform(np.array([0.1, 0.7, 0.2], "float32"))  # [0., 1., 0.]
    optimizer = MonteCarloOptimizer(transforms={"*/kernel": transform})
    ```
    """

    grid = 1.0

    def __call__(self, coordinates: Any) -> Any:
        chosen = ops.argmax(coordinates, axis=-1)
        return ops.one_hot(chosen, coordinates.shape[-1], dtype=coordinates.dtype)


@serializable
class Choice(Transform):
    """Lets each entry take one of the given values; neighbors are those next in order.

    The coordinates are positions in the sorted values, rounded, and reflected at both ends, so
    that the first and the last value are as likely as any. For categories without an order take
    `OneHot`.

    Args:
        values: Sequence of at least two different numbers.

    Example:

    ```python
    import numpy as np
    from keras_extras.optimizers import MonteCarloOptimizer, transforms

    transform = transforms.Choice([16, 32, 64])
    transform(np.array([-0.2, 1.9], "float32"))  # [16., 64.]
    optimizer = MonteCarloOptimizer(transforms={"*/kernel": transform})
    ```
    """

    grid = 1.0

    def __init__(self, values: Sequence[float]):
        is_list = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str)
        if not is_list or getattr(values, "ndim", 1) == 0:
            raise TypeError(
                "`values` must be a sequence of numbers, such as [16, 32, 64]. "
                f"Received: values={values!r}"
            )
        self.values = sorted({check_number("values", value) for value in values})
        if len(self.values) < 2:
            raise ValueError(
                f"`values` must hold at least two different numbers. Received: values={values}"
            )

    def __call__(self, coordinates: Any) -> Any:
        return self._at(self._positions(coordinates))

    def ends(self, coordinates: Any, distance: Any) -> tuple[Any, Any]:
        lower, upper = self._positions.ends(coordinates, distance)
        return self._at(lower), self._at(upper)

    @property
    def _positions(self):
        return Bounds(-0.5, len(self.values) - 0.5)

    def _at(self, position):
        position = ops.clip(ops.round(position), 0, len(self.values) - 1)
        values = ops.cast(ops.convert_to_tensor(self.values), position.dtype)
        return ops.take(values, ops.cast(position, "int32"))

    def inverse(self, values: Any) -> Any:
        distance = ops.abs(values[..., None] - ops.cast(self.values, values.dtype))
        return ops.cast(ops.argmin(distance, axis=-1), values.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"values": self.values}
