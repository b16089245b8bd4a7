"""AutoregressiveTransform: a distribution bent by an autoregressive network."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.distribution_kinds import unwrap
from keras_extras._core.probability import tfb, tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.distribution_layer import DistributionLayer


@serializable
class AutoregressiveTransform(DistributionLayer):
    """Transforms its input, a distribution over vectors, by a masked autoregressive flow.

    A draw `u` of the input becomes a draw `x` of the output by

    ```
    x_i = shift_i + exp(log_scale_i) u_i,  (shift_i, log_scale_i) = made(x)_i
    ```

    where `made(x)_i` depends on the entries before `x_i` alone, so that densities need one
    evaluation of the network, and draws one for each entry. Several layers in a row, with orders
    reversed, make richer distributions.

    References:
        Papamakarios, Pavlakou and Murray (2017), "Masked autoregressive flow for density
        estimation", [arXiv:1705.07057](https://arxiv.org/abs/1705.07057).

    Args:
        made: Layer from vectors of shape `(..., d)` to shape `(..., d, 2)` that is autoregressive,
            such as `AutoregressiveNetwork(params=2)`.
        **kwargs: `convert_to_tensor_fn` (`"sample"` by default), `seed` and `dtype`, as of
            `DistributionLambda`, and arguments of `keras.layers.Layer`.

    Input shape:
        A distribution over vectors: the output of a layer such as `MultivariateNormalDiag`.

    Raises:
        ValueError: If `made` has other than two parameters for each entry.
        TypeError: If `made` is no layer, or, in `call`, if the input is no distribution.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import layers

    model = keras.Sequential([
        keras.Input((4,)),
        layers.MultivariateNormalDiag(2),
        layers.AutoregressiveTransform(
            layers.AutoregressiveNetwork(2, hidden_units=[8], activation="relu")
        ),
    ])
    model(np.zeros((3, 4))).log_prob(np.zeros((3, 2), "float32"))  # three densities
    ```
    """

    def __init__(self, made: keras.layers.Layer, **kwargs: Any):
        super().__init__(**{"autocast": False, **kwargs})
        if not isinstance(made, keras.layers.Layer):
            raise TypeError(
                "`made` must be a Keras 3 layer, such as "
                "`keras_extras.layers.AutoregressiveNetwork(params=2)`. "
                f"Received: made of type {type(made).__name__}"
            )
        if getattr(made, "params", 2) != 2:
            raise ValueError(
                "`made` must have two parameters for each entry. "
                f"Received: made.params={made.params}"
            )
        self.made = made

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not self.made.built:
            self.made.build(input_shape)

    def make_distribution(self, inputs: Any) -> Any:
        if not isinstance(inputs, tfd.Distribution):
            raise TypeError(
                f"Layer {self.name!r} must follow a layer of distributions, such as "
                f"`MultivariateNormalDiag`. Received: inputs of type {type(inputs).__name__}"
            )

        def shift_and_log_scale(x):
            return ops.unstack(ops.cast(self.made(x), x.dtype), axis=-1)

        flow = tfb.MaskedAutoregressiveFlow(shift_and_log_scale)
        return tfd.TransformedDistribution(unwrap(inputs), bijector=flow)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        # Where models are put together, distributions are seen as tensors.
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "made": keras.saving.serialize_keras_object(self.made)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AutoregressiveTransform":
        made = keras.saving.deserialize_keras_object(config["made"])
        return cls(**{**config, "made": made})
