"""MultivariateNormalDiag: a multivariate normal distribution with a diagonal covariance."""

from typing import Any

from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.multivariate_normal import SECTIONS, MultivariateNormal


@serializable
@fill_docstring(sections=SECTIONS)
class MultivariateNormalDiag(MultivariateNormal):
    """A multivariate normal distribution with a diagonal covariance matrix.

    ```
    density(y) = product over i of exp(-z_i**2 / 2) / (sqrt(2 pi) scale_i), z = (y - loc) / scale
    scale = softplus(raw scale) + 1e-5
    ```

    The first `d` inputs are the mean, the others the raw standard deviations.

    {sections}

    Example:

    ```python
    import numpy as np
    import keras_extras

    layer = keras_extras.layers.MultivariateNormalDiag(2)
    distribution = layer(np.array([[1.0, 2.0, 0.0, 0.0]]))
    distribution.mean()  # [1.0, 2.0]
    ```
    """

    @staticmethod
    def scale_size(event_size: int) -> int:
        """Returns how many of the parameters are of the scale."""
        return event_size

    @staticmethod
    def with_scale(loc: Any, raw_scale: Any, validate_args: bool) -> Any:
        """Returns the distribution of a mean and the parameters of the scale."""
        scale = ops.softplus(raw_scale) + 1e-5
        return tfd.MultivariateNormalDiag(loc, scale, validate_args=validate_args)
