"""ContinuousRankedProbabilityScore: the mean score, in the units of the targets."""

from typing import Any

from keras_extras._core.crps import DRAWS, SampledScore
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.metrics.distribution_mean import DistributionMean, sections


@serializable(name="metrics.ContinuousRankedProbabilityScore")
@fill_docstring(
    draws=DRAWS,
    sections=sections("ContinuousRankedProbabilityScore", "(sqrt(2) - 1) / sqrt(pi) = 0.234"),
)
class ContinuousRankedProbabilityScore(SampledScore, DistributionMean):
    """Mean continuous ranked probability score (CRPS) of the targets.

    ```
    CRPS = integral over x of (F(x) - [x >= y_true])**2
    ```

    with `F` the predicted distribution function; see the loss of that name for what it means and
    for the sources. It has a closed form for normal, Laplace and logistic distributions and for
    mixtures of normal ones, and is estimated from draws of all others. Of vectors it is the sum
    over their entries.

    Args:
        {draws}
        name: String name of the metric. Defaults to `"crps"`.
        dtype: The dtype of the sums; `None` means `keras.config.floatx()`. Defaults to `None`.

    {sections}
    """

    def __init__(
        self,
        num_samples: int = 100,
        seed: int | None = None,
        name: str = "crps",
        dtype: Any = None,
    ):
        super().__init__(name, dtype, direction="down")
        self.set_draws(num_samples, seed)
