"""Box: keeps each entry of a weight between two numbers."""

import math
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_bounds
from keras_extras._core.registration import serializable


@serializable
class Box(keras.constraints.Constraint):
    """Clips each entry of a weight to `[lower, upper]`.

    Optimizers apply it after each update. `optimizers.LBFGS` minimizes within the box instead.

    Args:
        lower: Float or `None` for no lower bound. Defaults to `None`.
        upper: Float above `lower` or `None` for no upper bound. Defaults to `None`.

    Example:

    ```python
    import keras
    from keras_extras import constraints

    layer = keras.layers.Dense(1, kernel_constraint=constraints.Box(0.0, 1.0))
    ```
    """

    def __init__(self, lower: float | None = None, upper: float | None = None):
        self.lower, self.upper = check_bounds(lower, upper)

    @property
    def bounds(self) -> tuple[float, float]:
        """Both bounds, infinite where there is none."""
        lower, upper = self.lower, self.upper
        return -math.inf if lower is None else lower, math.inf if upper is None else upper

    def __call__(self, w: Any) -> Any:
        w = w if self.lower is None else ops.maximum(w, ops.cast(self.lower, w.dtype))
        return w if self.upper is None else ops.minimum(w, ops.cast(self.upper, w.dtype))

    def get_config(self) -> dict[str, Any]:
        return {"lower": self.lower, "upper": self.upper}
