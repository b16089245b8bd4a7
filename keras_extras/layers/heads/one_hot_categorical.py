"""OneHotCategorical: a categorical distribution over one-hot vectors."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_extras._core.checks import check_integer
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.head import Head, dtype_name


@serializable
class OneHotCategorical(Head):
    """A categorical distribution over one-hot vectors.

    ```
    P(class i) = softmax(logits)_i
    ```

    The inputs are the logits. Targets are one-hot; `Categorical` takes integer labels.

    Args:
        event_size: Integer, the number of classes.
        convert_to_tensor_fn: What stands for the distribution where a tensor is wanted, such as
            `"sample"`, `"mean"`, which are the probabilities, or `"logits"`, as in
            `DistributionLambda`. Defaults to `"sample"`.
        sample_dtype: The dtype of draws, `None` for that of the inputs. Defaults to `None`.
        validate_args: Boolean, whether to check inputs and parameters, at a cost. Defaults to
            `False`.
        **kwargs: `seed` and `dtype`, and arguments of `keras.layers.Layer`.

    Input shape:
        `(..., params_size(event_size))`.

    Example:

    ```python
    import numpy as np
    import keras_extras

    layer = keras_extras.layers.OneHotCategorical(3)
    distribution = layer(np.array([[0.0, 0.0, 0.0]]))
    distribution.mean()  # 1 / 3 each
    ```
    """

    arguments = ("event_size", "sample_dtype")

    def __init__(
        self,
        event_size: int,
        convert_to_tensor_fn: str | Callable[[Any], Any] = "sample",
        sample_dtype: Any = None,
        validate_args: bool = False,
        **kwargs: Any,
    ):
        super().__init__(convert_to_tensor_fn, validate_args=validate_args, **kwargs)
        self.event_size = check_integer("event_size", event_size)
        self.sample_dtype = dtype_name(sample_dtype)
        self.num_params = self.params_size(self.event_size)

    @staticmethod
    def params_size(event_size: int, name: str | None = None) -> int:
        """Returns how many parameters one distribution needs.

        Args:
            event_size: Integer, as in the constructor.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.
        """
        return check_integer("event_size", event_size)

    @staticmethod
    def new(
        params: Any,
        event_size: int,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> Any:
        """Returns the distribution that belongs to parameters.

        Args:
            params: Tensor of shape `(..., params_size(event_size))`.
            event_size: Integer, as in the constructor.
            dtype: The dtype of draws, `None` for that of `params`. Defaults to `None`.
            validate_args: Boolean, whether to check parameters. Defaults to `False`.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.

        Returns:
            A `tfd.OneHotCategorical` distribution.
        """
        params = ops.convert_to_tensor(params)
        return tfd.OneHotCategorical(
            logits=params, dtype=dtype or params.dtype, validate_args=validate_args
        )
