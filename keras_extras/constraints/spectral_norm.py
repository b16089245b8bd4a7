"""SpectralNorm: bounds how much a kernel can stretch its inputs."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_integer, check_number
from keras_extras._core.registration import serializable


@serializable
class SpectralNorm(keras.constraints.Constraint):
    """Scales a kernel down where its largest singular value exceeds a bound.

    ```
    w <- w min(1, max_value / sigma(w))
    ```

    A layer with such a kernel and an activation such as `relu` or `tanh` has at most that Lipschitz
    constant, and a residual block `x + layer(x)` with a bound below 1 keeps inputs that differ
    apart: it shrinks no distance by more than the factor `1 - max_value`. Kernels of convolutions
    count as matrices with a column for each filter, as in the reference.

    Optimizers apply it after each update. `keras.layers.SpectralNormalization` instead wraps a
    layer and sets its largest singular value to 1, also where it was less.

    References:
        Miyato et al. (2018), "Spectral normalization for generative adversarial networks",
        [arXiv:1802.05957](https://arxiv.org/abs/1802.05957), section 2.1.

    Args:
        max_value: Float, the bound. Defaults to `0.95`.
        power_iterations: Integer, the iterations that find the singular value. Defaults to `10`.

    Example:

    ```python
    import keras
    from keras_extras import constraints

    layer = keras.layers.Dense(16, "relu", kernel_constraint=constraints.SpectralNorm(0.9))
    ```
    """

    def __init__(self, max_value: float = 0.95, power_iterations: int = 10):
        self.max_value = check_number("max_value", max_value, above=0.0)
        self.power_iterations = check_integer("power_iterations", power_iterations)

    def __call__(self, w: Any) -> Any:
        if len(w.shape) < 2:
            raise ValueError(
                "`SpectralNorm` needs a kernel with at least two axes. "
                f"Received: a weight of shape {tuple(w.shape)}"
            )
        w = ops.convert_to_tensor(w)
        matrix = ops.reshape(
            ops.cast(w, keras.backend.result_type(w.dtype, "float32")), (-1, w.shape[-1])
        )
        if matrix.shape[0] < matrix.shape[1]:
            matrix = ops.transpose(matrix)
        gram = ops.matmul(ops.transpose(matrix), matrix)
        # The longest column has a part along the first singular vector.
        start = ops.argmax(ops.diagonal(gram))
        vector = ops.take(gram, start, axis=1)
        for _ in range(self.power_iterations):
            vector = ops.matmul(gram, _unit(vector))
        norm = ops.sqrt(ops.norm(vector))
        scale = self.max_value / ops.maximum(norm, self.max_value)
        return w * ops.cast(scale, w.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"max_value": self.max_value, "power_iterations": self.power_iterations}


def _unit(vector):
    return vector / ops.maximum(ops.norm(vector), keras.config.epsilon() ** 2)
