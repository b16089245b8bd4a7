"""ActivationUniform: uniform weights, as wide as the activation behind them wants."""

from typing import Any

import keras

from keras_extras._core.checks import check_choice
from keras_extras._core.registration import serializable

_FACTORS = {"sigmoid": 4.0, "tanh": 1.0, "relu": 2.0**0.5, "silu": 2.0**0.5}


@serializable
class ActivationUniform(keras.initializers.VarianceScaling):
    """Draws weights from a uniform distribution whose bounds suit the activation behind them.

    ```
    w ~ U(-limit, limit),  limit = factor * sqrt(6 / (fan_in + fan_out))
    ```

    | activation | factor | because |
    |---|---|---|
    | `"tanh"` | 1 | its slope at zero is 1, so that signals and gradients keep their variance |
    | `"sigmoid"` | 4 | its slope at zero is 1/4 |
    | `"relu"` | sqrt(2) | it passes half of a symmetric signal's second moment |
    | `"silu"` | sqrt(2) | it nears `relu` for large inputs |

    The first two make the limits of `keras.initializers.GlorotUniform` depend on the slope of the
    activation (Glorot and Bengio, 2010), the last two on the power it passes (He et al., 2015).

    Args:
        activation: One of `"sigmoid"`, `"tanh"`, `"relu"` and `"silu"`, the activation of the
            layer whose weights are drawn. Defaults to `"sigmoid"`.
        seed: Integer, `keras.random.SeedGenerator` or `None`, as in Keras' initializers: one
            with an integer draws the same values in every call. Defaults to `None`.

    Raises:
        ValueError: If `activation` is none of them.

    Example:

    ```python
    import keras
    from keras_extras import initializers

    layer = keras.layers.Dense(
        16,
        activation="sigmoid",
        kernel_initializer=initializers.ActivationUniform("sigmoid", seed=0),
    )
    ```

    References:
        - [Glorot and Bengio, 2010, "Understanding the difficulty of training deep feedforward
          neural networks"](https://proceedings.mlr.press/v9/glorot10a.html)
        - [He et al., 2015, "Delving Deep into Rectifiers"](https://arxiv.org/abs/1502.01852)
    """

    def __init__(self, activation: str = "sigmoid", seed: Any = None):
        self.activation = check_choice("activation", activation, _FACTORS)
        # Uniform with variance scale / fan_avg has the limit sqrt(scale) sqrt(6 / (in + out)).
        scale = _FACTORS[activation] ** 2
        super().__init__(scale=scale, mode="fan_avg", distribution="uniform", seed=seed)

    def get_config(self) -> dict[str, Any]:
        return {"activation": self.activation, "seed": super().get_config()["seed"]}
