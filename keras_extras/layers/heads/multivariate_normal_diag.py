"""MultivariateNormalDiag: a multivariate normal distribution with a diagonal covariance."""

from collections.abc import Callable
from typing import Any

from keras_extras._core.checks import check_integer
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tf, tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.distribution_layer import HEAD_ARGUMENTS
from keras_extras.layers.heads.head import Head


@serializable
@fill_docstring(head_arguments=HEAD_ARGUMENTS)
class MultivariateNormalDiag(Head):
    """A multivariate normal distribution with a diagonal covariance matrix.

    ```
    density(y) = product over i of exp(-z_i**2 / 2) / (sqrt(2 pi) scale_i), z = (y - loc) / scale
    scale = softplus(raw scale) + 1e-5
    ```

    The first `d` inputs are the mean, the others the raw standard deviations.

    Args:
        event_size: Integer `d`, the number of entries.
        {head_arguments}

    Input shape:
        `(..., params_size(event_size))`.

    Example:

    ```python
    import numpy as np
    import keras_extras

    layer = keras_extras.layers.MultivariateNormalDiag(2)
    distribution = layer(np.array([[1.0, 2.0, 0.0, 0.0]]))
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
        return 2 * event_size

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
            A `tfd.MultivariateNormalDiag` distribution.
        """
        loc, raw_scale = tf.split(tf.convert_to_tensor(params), 2, axis=-1)
        return tfd.MultivariateNormalDiag(
            loc, tf.math.softplus(raw_scale) + 1e-5, validate_args=validate_args
        )
