"""DistributionLoss: the base of losses of models that end in a distribution."""

from typing import Any

import keras

from keras_extras._core.probability import require_probability
from keras_extras._core.targets import match_targets, require_distribution

# Of the docstrings of its children.
ARGUMENTS = """
    reduction: Type of reduction over the batch, as of other Keras losses. Defaults to
        `"sum_over_batch_size"`.
    dtype: The dtype of the loss; `None` means `keras.config.floatx()`. Defaults to `None`.
    """


def example(loss: str) -> str:
    """Returns the example of the docstring of a loss.

    Args:
        loss: A call of its constructor.
    """
    return f"""
    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    model = keras.Sequential([keras.layers.Dense(2), keras_extras.layers.IndependentNormal()])
    model.compile("adam", keras_extras.losses.{loss})
    model.fit(np.ones((8, 3)), np.ones(8), verbose=0)
    ```
    """


class DistributionLoss(keras.losses.Loss):
    """A loss of targets and the distributions predicted for them.

    Targets get the shape of a draw before `score` sees them: a last axis of length 1 is added or
    dropped, and shapes that do not fit are an error.

    Args:
        name: String name of the loss.
        reduction: Type of reduction over the batch, as of other Keras losses.
        dtype: The dtype of the loss.
    """

    def __init__(self, name: str, reduction: str | None, dtype: Any):
        require_probability(f"keras_extras.losses.{type(self).__name__}")
        floatx = keras.config.floatx()
        if dtype is not None and keras.backend.standardize_dtype(dtype) != floatx:
            raise ValueError(
                f"`dtype` must be that of the distributions, {floatx!r}, or None. "
                f"Received: dtype={dtype!r}"
            )
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def score(self, y_true: Any, distribution: Any) -> Any:
        """Returns one score for each member of the batch.

        Args:
            y_true: Tensor of targets, in the shape of a draw.
            distribution: A `tfd.Distribution`.
        """
        raise NotImplementedError

    def call(self, y_true: Any, y_pred: Any) -> Any:
        owner = type(self).__name__
        distribution = require_distribution(y_pred, owner)
        return self.score(match_targets(y_true, distribution, owner), distribution)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dtype": self.dtype}
