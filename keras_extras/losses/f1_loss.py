"""F1Loss: one minus the F1 score of a batch."""

from typing import Any

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.losses.fbeta_loss import AVERAGE, THRESHOLD, VALUE_ERROR, FBetaLoss


@serializable
@fill_docstring(average=AVERAGE, threshold=THRESHOLD, value_error=VALUE_ERROR)
class F1Loss(FBetaLoss):
    """One minus the F1 score, the harmonic mean of precision and recall.

    ```
    loss = 1 - 2 * TP / (2 * TP + FN + FP)
    ```

    This is `FBetaLoss` with `beta=1`: see there.

    References:
        van Rijsbergen (1979), "Information Retrieval", chapter 7.

    Args:
        {average}
        {threshold}
        name: String name of the loss. Defaults to `"f1_loss"`.
        dtype: The dtype of the loss; `None` means `keras.config.floatx()`. Defaults to `None`.

    Raises:
        TypeError: If `threshold` is not a number.
        {value_error}

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    y = (x[:, 0] > 1).astype("float32")

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
    optimizer = keras_extras.optimizers.MonteCarloOptimizer()
    model.compile(optimizer, keras_extras.losses.F1Loss())
    model.fit(x, y, batch_size=128, epochs=2, verbose=0)
    ```
    """

    def __init__(
        self,
        average: str = "macro",
        threshold: float | None = 0.5,
        name: str = "f1_loss",
        dtype: Any = None,
    ):
        super().__init__(average=average, threshold=threshold, name=name, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["beta"]
        return config
