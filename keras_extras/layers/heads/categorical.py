"""Categorical: a categorical distribution over integer labels."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_extras._core.checks import check_integer
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.head import Head, dtype_name


@serializable
class Categorical(Head):
    """A categorical distribution over integer labels.

    ```
    P(label i) = softmax(logits)_i
    ```

    The inputs are the logits, targets the labels 0 to `num_classes - 1`. Its mean is
    that of the labels as numbers. `"accuracy"` and Keras' sparse categorical metrics get the
    probabilities of the classes, whatever stands for the distribution where a tensor is wanted.

    Args:
        num_classes: Integer, the number of classes.
        convert_to_tensor_fn: What stands for the distribution where a tensor is wanted, such as
            `"sample"`, `"mode"` or `"logits"`, as in `DistributionLambda`. Defaults to `"sample"`.
        sample_dtype: The dtype of draws, `None` for `"int32"`. Defaults to `None`.
        validate_args: Boolean, whether to check inputs and parameters, at a cost. Defaults to
            `False`.
        **kwargs: `seed` and `dtype`, and arguments of `keras.layers.Layer`.

    Input shape:
        `(..., params_size(num_classes))`.

    Example:

    ```python
    import numpy as np
    import keras_extras

    layer = keras_extras.layers.Categorical(3)
    distribution = layer(np.array([[0.0, 0.0, 9.0]]))
    distribution.mode()  # 2
    ```
    """

    arguments = ("num_classes", "sample_dtype")

    def __init__(
        self,
        num_classes: int,
        convert_to_tensor_fn: str | Callable[[Any], Any] = "sample",
        sample_dtype: Any = None,
        validate_args: bool = False,
        **kwargs: Any,
    ):
        super().__init__(convert_to_tensor_fn, validate_args=validate_args, **kwargs)
        self.num_classes = check_integer("num_classes", num_classes)
        self.sample_dtype = dtype_name(sample_dtype)
        self.num_params = self.params_size(self.num_classes)

    @staticmethod
    def params_size(num_classes: int, name: str | None = None) -> int:
        """Returns how many parameters one distribution needs.

        Args:
            num_classes: Integer, as in the constructor.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.
        """
        return check_integer("num_classes", num_classes)

    @staticmethod
    def new(
        params: Any,
        num_classes: int,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> Any:
        """Returns the distribution that belongs to parameters.

        Args:
            params: Tensor of shape `(..., params_size(num_classes))`.
            num_classes: Integer, as in the constructor.
            dtype: The dtype of draws, `None` for `"int32"`. Defaults to `None`.
            validate_args: Boolean, whether to check parameters. Defaults to `False`.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.

        Returns:
            A `tfd.Categorical` distribution.
        """
        return tfd.Categorical(
            logits=ops.convert_to_tensor(params),
            dtype=dtype or "int32",
            validate_args=validate_args,
        )
