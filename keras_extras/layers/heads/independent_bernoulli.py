"""IndependentBernoulli: Bernoulli distributions of entries, 0 or 1."""

from collections.abc import Callable, Sequence
from typing import Any

from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.head import dtype_name
from keras_extras.layers.heads.independent_head import IndependentHead


@serializable
class IndependentBernoulli(IndependentHead):
    """Bernoulli distributions of entries, each 0 or 1.

    ```
    P(1) = sigmoid(logit)
    ```

    The inputs are the logits. `convert_to_tensor_fn="logits"` and `"probs"` work, too, as does
    `tfd.Bernoulli.logits`.

    Args:
        event_shape: Integer or integers, the shape of one draw. Defaults to `()`, a number.
        convert_to_tensor_fn: What stands for the distribution where a tensor is wanted, such as
            `"sample"`, `"mean"` or a function, as in `DistributionLambda`. Defaults to
            `"sample"`.
        sample_dtype: The dtype of draws, `None` for that of the inputs. Defaults to `None`.
        validate_args: Boolean, whether to check inputs and parameters, at a cost. Defaults to
            `False`.
        **kwargs: `seed` and `dtype`, and arguments of `keras.layers.Layer`.

    Input shape:
        `(..., params_size(event_shape))`.

    Output shape:
        `(..., *event_shape)` for draws.

    Example:

    ```python
    import numpy as np
    import keras_extras

    layer = keras_extras.layers.IndependentBernoulli()
    distribution = layer(np.array([[0.0]]))
    distribution.mean()  # 0.5
    ```
    """

    params_per_entry = 1
    arguments = ("event_shape", "sample_dtype")

    def __init__(
        self,
        event_shape: int | Sequence[int] = (),
        convert_to_tensor_fn: str | Callable[[Any], Any] = "sample",
        sample_dtype: Any = None,
        validate_args: bool = False,
        **kwargs: Any,
    ):
        super().__init__(event_shape, convert_to_tensor_fn, validate_args, **kwargs)
        self.sample_dtype = dtype_name(sample_dtype)

    @staticmethod
    def entries(logits: Any, dtype: Any, validate_args: bool) -> Any:
        """Returns the distribution of the entries, of event shape `()`."""
        dtype = dtype or logits.dtype
        return tfd.Bernoulli(logits=logits, dtype=dtype, validate_args=validate_args)

    @classmethod
    def new(  # type: ignore[override]  # in the order of tfp.layers
        cls,
        params: Any,
        event_shape: int | Sequence[int] = (),
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> Any:
        """Returns the distribution that belongs to parameters.

        Args:
            params: Tensor of shape `(..., params_size(event_shape))`.
            event_shape: Integer or integers, the shape of one draw. Defaults to `()`.
            dtype: The dtype of draws, `None` for that of `params`. Defaults to `None`.
            validate_args: Boolean, whether to check parameters. Defaults to `False`.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.

        Returns:
            A `tfd.Independent` distribution.
        """
        return cls.independent(params, event_shape, validate_args, dtype=dtype)
