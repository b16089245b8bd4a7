"""CategoricalMixtureOfOneHotCategorical: mixtures of distributions over one-hot vectors."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_extras._core.checks import check_integer
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.head import Head, dtype_name
from keras_extras.layers.heads.mixture_same_family import MixtureSameFamily
from keras_extras.layers.heads.one_hot_categorical import OneHotCategorical


@serializable
class CategoricalMixtureOfOneHotCategorical(Head):
    """A mixture of categorical distributions over one-hot vectors.

    ```
    P(class i) = sum over k of softmax(mixture logits)_k softmax(logits_k)_i
    ```

    The first `num_components` inputs are the logits of the components, the others the logits of
    the classes, one component after the other. Its mean are the probabilities of the classes,
    `log_mean()` their logarithms.

    Args:
        event_size: Integer, the number of classes.
        num_components: Integer, the number of components.
        convert_to_tensor_fn: What stands for the distribution where a tensor is wanted, such as
            `"sample"`, `"mean"` or `"log_mean"`, as in `DistributionLambda`. Defaults to
            `"sample"`.
        sample_dtype: The dtype of draws, `None` for that of the inputs. Defaults to `None`.
        validate_args: Boolean, whether to check inputs and parameters, at a cost. Defaults to
            `False`.
        **kwargs: `seed` and `dtype`, and arguments of `keras.layers.Layer`.

    Input shape:
        `(..., params_size(event_size, num_components))`.

    Output shape:
        `(..., event_size)` for draws and the mean.

    Example:

    ```python
    import numpy as np
    import keras_extras

    layer = keras_extras.layers.CategoricalMixtureOfOneHotCategorical(3, num_components=2)
    distribution = layer(np.zeros((1, 8)))
    distribution.mean()  # 1 / 3 each
    ```
    """

    arguments = ("event_size", "num_components", "sample_dtype")

    def __init__(
        self,
        event_size: int,
        num_components: int,
        convert_to_tensor_fn: str | Callable[[Any], Any] = "sample",
        sample_dtype: Any = None,
        validate_args: bool = False,
        **kwargs: Any,
    ):
        super().__init__(convert_to_tensor_fn, validate_args=validate_args, **kwargs)
        self.event_size = check_integer("event_size", event_size)
        self.num_components = check_integer("num_components", num_components)
        self.sample_dtype = dtype_name(sample_dtype)
        self.num_params = self.params_size(self.event_size, self.num_components)

    @staticmethod
    def params_size(event_size: int, num_components: int, name: str | None = None) -> int:
        """Returns how many parameters one distribution needs.

        Args:
            event_size: Integer, the number of classes.
            num_components: Integer, the number of components.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.
        """
        return MixtureSameFamily.params_size(
            num_components, OneHotCategorical.params_size(event_size)
        )

    @staticmethod
    def new(
        params: Any,
        event_size: int,
        num_components: int,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> Any:
        """Returns the distribution that belongs to parameters.

        Args:
            params: Tensor of shape `(..., params_size(event_size, num_components))`.
            event_size: Integer, the number of classes.
            num_components: Integer, the number of components.
            dtype: The dtype of draws, `None` for that of `params`. Defaults to `None`.
            validate_args: Boolean, whether to check parameters. Defaults to `False`.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.

        Returns:
            A `tfd.MixtureSameFamily` distribution with the method `log_mean`.
        """

        def make_components(logits):
            return OneHotCategorical.new(logits, event_size, dtype, validate_args)

        mixture = MixtureSameFamily.new(params, num_components, make_components, validate_args)

        def log_mean():
            weights = ops.log_softmax(mixture.mixture_distribution.logits)
            logits = ops.log_softmax(mixture.components_distribution.logits)
            return ops.logsumexp(weights[..., None] + logits, axis=-2)

        mixture.log_mean = log_mean
        return mixture
