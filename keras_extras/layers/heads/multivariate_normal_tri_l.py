"""MultivariateNormalTriL: a multivariate normal distribution with a full covariance."""

from typing import Any

from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tfd, tfp
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.multivariate_normal import SECTIONS, MultivariateNormal


@serializable
@fill_docstring(sections=SECTIONS)
class MultivariateNormalTriL(MultivariateNormal):
    """A multivariate normal distribution with a full covariance matrix.

    ```
    density(y) = exp(-|z|**2 / 2) / ((2 pi)**(d / 2) |det L|), L z = y - loc
    ```

    The first `d` inputs are the mean, the others fill the lower triangle of `L`, the Cholesky
    factor of the covariance; its diagonal is softplus of them plus 1e-5.

    With three or more entries the log-probability overflows in single precision where these
    inputs are in the hundreds, as they may be before training on unscaled features. Then the loss
    is NaN; standardize the features, e.g. with `keras.layers.Normalization`.

    {sections}

    Example:

    ```python
    import numpy as np
    import keras_extras

    layer = keras_extras.layers.MultivariateNormalTriL(2)
    distribution = layer(np.array([[1.0, 2.0, 0.0, 0.0, 0.0]]))
    distribution.mean()  # [1.0, 2.0]
    ```
    """

    @staticmethod
    def scale_size(event_size: int) -> int:
        """Returns how many of the parameters are of the scale."""
        return event_size * (event_size + 1) // 2

    @staticmethod
    def with_scale(loc: Any, raw_scale: Any, validate_args: bool) -> Any:
        """Returns the distribution of a mean and the parameters of the scale."""
        lower = tfp.math.fill_triangular(raw_scale)
        # By masks: under XLA the gradient of `set_diag` fails with an unknown batch size.
        diagonal = ops.eye(lower.shape[-1], dtype=lower.dtype)
        scale_tril = (1.0 - diagonal) * lower + diagonal * (ops.softplus(lower) + 1e-5)
        return tfd.MultivariateNormalTriL(loc, scale_tril, validate_args=validate_args)
