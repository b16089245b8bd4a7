"""ExponentiatedQuadraticKernel: the kernel of smooth functions, with learned scales."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_integer
from keras_extras._core.probability import require_probability, tfp
from keras_extras._core.registration import serializable


@serializable
class ExponentiatedQuadraticKernel(keras.layers.Layer):
    """Provides the exponentiated quadratic kernel to `VariationalGaussianProcess`.

    ```
    k(x, x') = amplitude**2 exp(-|x - x'|**2 / (2 length_scale**2))
    amplitude = softplus(raw amplitude),  length_scale = softplus(raw length_scale)
    ```

    As a layer it returns its input; what it is for is its property `kernel`.

    References:
        Rasmussen and Williams (2006), "Gaussian processes for machine learning", section 4.2.

    Args:
        feature_ndims: Integer, how many last axes of the inputs make one point. Defaults to `1`.
        amplitude_initializer: Initializer of the raw amplitude. Defaults to `"zeros"`, an
            amplitude of 0.69.
        length_scale_initializer: Initializer of the raw length scale, which is in the units of
            the inputs. Defaults to `"zeros"`, a length scale of 0.69.
        **kwargs: Of `keras.layers.Layer`, such as `name` and `dtype`.

    Weights:
        The scalars `amplitude` and `length_scale`, both raw.

    Example:

    ```python
    import numpy as np
    import keras_extras

    provider = keras_extras.layers.ExponentiatedQuadraticKernel()
    provider.kernel.matrix(np.zeros((2, 1), "float32"), np.zeros((2, 1), "float32"))
    ```
    """

    def __init__(
        self,
        feature_ndims: int = 1,
        amplitude_initializer: Any = "zeros",
        length_scale_initializer: Any = "zeros",
        **kwargs: Any,
    ):
        require_probability(type(self).__name__)
        super().__init__(**kwargs)
        self.feature_ndims = check_integer("feature_ndims", feature_ndims)
        self.amplitude_initializer = keras.initializers.get(amplitude_initializer)
        self.length_scale_initializer = keras.initializers.get(length_scale_initializer)
        self.amplitude = self.add_weight(
            name="amplitude", shape=(), initializer=self.amplitude_initializer
        )
        self.length_scale = self.add_weight(
            name="length_scale", shape=(), initializer=self.length_scale_initializer
        )
        self.supports_masking = True
        self.built = True

    @property
    def kernel(self) -> Any:
        """The kernel with the present weights, of `tfp.math.psd_kernels`."""
        amplitude, length_scale = map(ops.convert_to_tensor, (self.amplitude, self.length_scale))
        return tfp.math.psd_kernels.ExponentiatedQuadratic(
            ops.softplus(amplitude),
            ops.softplus(length_scale),
            feature_ndims=self.feature_ndims,
        )

    def call(self, inputs: Any) -> Any:
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "feature_ndims": self.feature_ndims,
            "amplitude_initializer": keras.initializers.serialize(self.amplitude_initializer),
            "length_scale_initializer": keras.initializers.serialize(self.length_scale_initializer),
        }
