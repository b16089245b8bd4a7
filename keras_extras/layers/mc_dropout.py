"""MCDropout: dropout that goes on after training."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_extras._core.checks import check_integers, check_number, check_seed
from keras_extras._core.registration import serializable


@serializable
class MCDropout(keras.layers.Dropout):
    """Dropout whose masks are drawn in training and prediction alike.

    Each call is then a draw from an approximate posterior of the network, and
    `keras_extras.predict_distribution` averages over many. In place of the divergence from a
    prior stands an L2 regularizer of the weights behind it: with a normal prior of standard
    deviation `s` and `n` training rows, `L2(1 / (2 n s^2 (1 - rate)))`.

    References:
        Gal and Ghahramani (2016), "Dropout as a Bayesian approximation",
        [arXiv:1506.02142](https://arxiv.org/abs/1506.02142).

    Args:
        rate: Float in [0, 1), the share of the inputs that are set to zero; the others are
            multiplied by `1 / (1 - rate)`.
        noise_shape: Integers, the shape of the mask, as in `keras.layers.Dropout`. Defaults to
            `None`.
        seed: Integer seed of the masks. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    model = keras.Sequential([
        keras.Input((1,)),
        keras.layers.Dense(32, activation="relu"),
        keras_extras.layers.MCDropout(0.1),
        keras.layers.Dense(2),
        keras_extras.layers.IndependentNormal(1),
    ])
    prediction = keras_extras.predict_distribution(model, np.zeros((4, 1)), num_samples=20)
    prediction.epistemic_variance()  # of each of the 4 rows
    ```
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if check_number("rate", rate) < 0.0 or rate >= 1.0:
            raise ValueError(f"`rate` must lie in [0, 1). Received: rate={rate!r}")
        if noise_shape is not None:
            is_list = isinstance(noise_shape, list | tuple)
            known = [n for n in noise_shape if n is not None] if is_list else noise_shape
            check_integers("noise_shape", known)
        super().__init__(rate, noise_shape, check_seed(seed), **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return super().call(inputs, training=True)
