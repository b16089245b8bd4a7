"""MultivariateNormalTriL: a multivariate normal distribution with a full covariance."""

from collections.abc import Callable
from typing import Any

from keras_extras._core.checks import check_integer
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tf, tfd, tfp
from keras_extras._core.registration import serializable
from keras_extras.layers.distribution_layer import HEAD_ARGUMENTS
from keras_extras.layers.heads.head import Head


@serializable
@fill_docstring(head_arguments=HEAD_ARGUMENTS)
class MultivariateNormalTriL(Head):
    """A multivariate normal distribution with a full covariance matrix.

    ```
    density(y) = exp(-|z|**2 / 2) / ((2 pi)**(d / 2) |det L|), L z = y - loc
    ```

    The first `d` inputs are the mean, the others fill the lower triangle of `L`, the Cholesky
    factor of the covariance; its diagonal is softplus of them plus 1e-5.

    With three or more entries the log-probability overflows in single precision where these
    inputs are in the hundreds, as they may be before training on unscaled features. Then the loss
    is NaN; standardize the features, e.g. with `keras.layers.Normalization`.

    Args:
        event_size: Integer `d`, the number of entries.
        {head_arguments}

    Input shape:
        `(..., params_size(event_size))`.

    Example:

    ```python
    import numpy as np
    import keras_extras

    layer = keras_extras.layers.MultivariateNormalTriL(2)
    distribution = layer(np.array([[1.0, 2.0, 0.0, 0.0, 0.0]]))
    distribution.mean()  # [1.0, 2.0]
    ```
    """

    arguments = ("event_size",)

    def __init__(
        self,
        event_size: int,
        convert_to_tensor_fn: str | Callable[[Any], Any] = "sample",
        validate_args: bool = False,
        **kwargs: Any,
    ):
        super().__init__(convert_to_tensor_fn, validate_args=validate_args, **kwargs)
        self.event_size = check_integer("event_size", event_size)
        self.num_params = self.params_size(self.event_size)

    @staticmethod
    def params_size(event_size: int, name: str | None = None) -> int:
        """Returns how many parameters one distribution needs.

        Args:
            event_size: Integer, as in the constructor.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.
        """
        event_size = check_integer("event_size", event_size)
        return event_size + event_size * (event_size + 1) // 2

    @staticmethod
    def new(
        params: Any,
        event_size: int,
        validate_args: bool = False,
        name: str | None = None,
    ) -> Any:
        """Returns the distribution that belongs to parameters.

        Args:
            params: Tensor of shape `(..., params_size(event_size))`.
            event_size: Integer, as in the constructor.
            validate_args: Boolean, whether to check parameters. Defaults to `False`.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.

        Returns:
            A `tfd.MultivariateNormalTriL` distribution.
        """
        params = tf.convert_to_tensor(params)
        event_size = check_integer("event_size", event_size)
        lower = tfp.math.fill_triangular(params[..., event_size:])
        # By masks: under XLA the gradient of `set_diag` fails with an unknown batch size.
        diagonal = tf.eye(event_size, dtype=params.dtype)
        scale_tril = (1.0 - diagonal) * lower + diagonal * (tf.math.softplus(lower) + 1e-5)
        return tfd.MultivariateNormalTriL(
            loc=params[..., :event_size],
            scale_tril=scale_tril,
            validate_args=validate_args,
        )
