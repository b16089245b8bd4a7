"""Minimum and FixedPoint: results of `minimize` and `fixed_point`."""

from typing import Any, NamedTuple


class Minimum(NamedTuple):
    """A minimum, with derivatives: the result of `minimize`.

    Attributes:
        minimizer: Structure like `start`, or list aligned with a model's trainable weights.
        value: Scalar tensor, the function there.
        gradient_norm: Scalar tensor, the largest entry of the gradient there.
        iterations: Scalar tensor of integers.
        converged: Boolean scalar tensor.

    Example:

    ```python
    from keras import ops
    from keras_extras import autodiff

    found = autodiff.minimize(lambda x: ops.square(x - 2.0) + 1.0, 0.0)
    found.minimizer, found.value  # 2.0 and 1.0
    ```
    """

    minimizer: Any
    value: Any
    gradient_norm: Any
    iterations: Any
    converged: Any


class FixedPoint(NamedTuple):
    """A fixed point, with derivatives: the result of `fixed_point`.

    Attributes:
        point: Structure like `start`.
        residual_norm: Scalar tensor, the largest entry of `point - function(point)`.
        iterations: Scalar tensor of integers.
        converged: Boolean scalar tensor.

    Example:

    ```python
    from keras import ops
    from keras_extras import autodiff

    found = autodiff.fixed_point(ops.cos, 1.0)
    found.point  # 0.739, where cos(x) = x
    ```
    """

    point: Any
    residual_norm: Any
    iterations: Any
    converged: Any
