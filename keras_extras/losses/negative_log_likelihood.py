"""NegativeLogLikelihood: the logarithmic score of a predicted distribution."""

from typing import Any

from keras_extras._core.registration import serializable
from keras_extras.losses.distribution_loss import DistributionLoss


@serializable
class NegativeLogLikelihood(DistributionLoss):
    """Negative logarithm of the density, or probability, of the targets.

    ```
    loss = -log density(y_true)
    ```

    for models whose output is a distribution, such as those that end in `IndependentNormal`. It is
    the same as `loss=lambda y, rv_y: -rv_y.log_prob(y)`, but is saved with the model and loads in
    safe mode, and errors name what does not fit. Of distributions over vectors it is the joint
    density, the sum over independent entries.

    Args:
        name: String name of the loss. Defaults to `"nll"`.
        reduction: Type of reduction over the batch, as of other Keras losses. Defaults to
            `"sum_over_batch_size"`.
        dtype: The dtype of the loss; `None` means `keras.config.floatx()`. Defaults to `None`.

    Raises:
        TypeError: In `call`, if the model's output is no distribution.
        ValueError: In `call`, if the targets do not have the shape of a draw.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    model = keras.Sequential([keras.layers.Dense(2), keras_extras.layers.IndependentNormal()])
    model.compile("adam", keras_extras.losses.NegativeLogLikelihood())
    model.fit(np.ones((8, 3)), np.ones(8), verbose=0)
    ```
    """

    def __init__(
        self,
        name: str = "nll",
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)

    def score(self, y_true: Any, distribution: Any) -> Any:
        """Returns the negative log-likelihood of each member of the batch.

        Args:
            y_true: Tensor of targets, in the shape of a draw.
            distribution: A `tfd.Distribution`.
        """
        return -distribution.log_prob(y_true)
