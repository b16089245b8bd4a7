"""ContinuousRankedProbabilityScore: the mean score, in the units of the targets."""

from typing import Any

import keras

from keras_extras._core.checks import check_integer, check_seed
from keras_extras._core.crps import crps
from keras_extras._core.probability import stateless_seed
from keras_extras._core.registration import serializable
from keras_extras.metrics.distribution_mean import DistributionMean


@serializable(name="metrics.ContinuousRankedProbabilityScore")
class ContinuousRankedProbabilityScore(DistributionMean):
    """Mean continuous ranked probability score (CRPS) of the targets.

    ```
    CRPS = integral over x of (F(x) - [x >= y_true])**2
    ```

    with `F` the predicted distribution function; see the loss of that name for what it means and
    for the sources. It has a closed form for normal, Laplace and logistic distributions and for
    mixtures of normal ones, and is estimated from draws of all others. Of vectors it is the sum
    over their entries.

    Args:
        num_samples: Integer of at least 2, how many draws to take where there is no closed form.
            Defaults to `100`.
        seed: Integer seed of the draws. Defaults to `None`.
        name: String name of the metric. Defaults to `"crps"`.
        dtype: The dtype of the sums; `None` means `keras.config.floatx()`. Defaults to `None`.

    Raises:
        TypeError: In `update_state`, if the prediction is no distribution.
        ValueError: In `update_state`, if the targets do not have the shape of a draw.

    Example:

    ```python
    import tensorflow_probability as tfp
    import keras_extras

    metric = keras_extras.metrics.ContinuousRankedProbabilityScore()
    metric.update_state([0.0, 0.0], tfp.distributions.Normal([0.0, 0.0], 1.0))
    metric.result()  # (sqrt(2) - 1) / sqrt(pi) = 0.234
    ```
    """

    def __init__(
        self,
        num_samples: int = 100,
        seed: int | None = None,
        name: str = "crps",
        dtype: Any = None,
    ):
        super().__init__(name, dtype, direction="down")
        self.num_samples = check_integer("num_samples", num_samples, minimum=2)
        self.seed = check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def score(self, y_true: Any, distribution: Any) -> Any:
        """Returns the score of each member of the batch.

        Args:
            y_true: Tensor of targets, in the shape of a draw.
            distribution: A `tfd.Distribution`.
        """
        return crps(distribution, y_true, self.num_samples, self._next_seed)

    def _next_seed(self):
        return stateless_seed(self.seed_generator)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_samples": self.num_samples, "seed": self.seed}
