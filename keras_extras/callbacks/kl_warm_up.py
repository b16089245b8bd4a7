"""KLWarmUp: raises the weight of KL divergences over the first epochs."""

from typing import Any

import keras

from keras_extras._core.checks import check_integer, check_number
from keras_extras._core.kl_share import current_share


class KLWarmUp(keras.callbacks.Callback):
    """Raises the weight of KL divergences from a small share to the whole, epoch by epoch.

    ```
    share of epoch e = start + (1 - start) e / epochs, at most 1
    ```

    with `e` counted from 0. It multiplies the `kl_weight` of all layers with Bayesian weights, such
    as `DenseFlipout`, and the `weight` of `KLDivergenceRegularizer` and `KLDivergenceAddLoss`. A
    divergence that is large at first may otherwise keep posteriors at their priors. Validation
    within the warm-up sees the same share. After training the share is 1.

    References:
        Sønderby et al. (2016), "Ladder variational autoencoders",
        [arXiv:1602.02282](https://arxiv.org/abs/1602.02282).

    Args:
        epochs: Integer, the epochs until the divergence counts in full.
        start: Float in [0, 1], the share in the first epoch. Defaults to `0.0`.

    Raises:
        ValueError: In `fit`, if no layer of the model adds a divergence.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras
    from keras_extras import layers

    model = keras.Sequential([
        layers.DenseFlipout(2, kl_weight="auto"),
        layers.IndependentNormal(1),
    ])
    model.compile("adam", loss=lambda y, rv_y: -rv_y.log_prob(y))
    x = np.linspace(-1.0, 1.0, 64)[:, None]
    warm_up = keras_extras.callbacks.KLWarmUp(epochs=2)
    model.fit(x, 2.0 * x, epochs=4, callbacks=[warm_up], verbose=0)
    ```
    """

    def __init__(self, epochs: int, start: float = 0.0):
        super().__init__()
        self.epochs = check_integer("epochs", epochs)
        self.start = check_number("start", start, at_least=0.0, at_most=1.0)

        self._awaits_layers = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        share = min(1.0, self.start + (1.0 - self.start) * epoch / self.epochs)
        if self.model.built:
            self._assign(share)
        else:
            current_share.set(share)
            self._awaits_layers = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._awaits_layers:
            self._awaits_layers = False
            current_share.set(1.0)
            self._variables()

    def on_train_end(self, logs: Any = None) -> None:
        self._assign(1.0)

    def _assign(self, share):
        for variable in self._variables():
            variable.assign(share)

    def _variables(self):
        variables = [v for v in self.model.variables if v.name == "kl_warm_up"]
        if not variables:
            raise ValueError(
                "`KLWarmUp` needs a model with layers that add a divergence, such as "
                "`keras_extras.layers.DenseFlipout` or `KLDivergenceAddLoss`. "
                f"Received: {self.model.name!r}, which has none"
            )
        return variables
