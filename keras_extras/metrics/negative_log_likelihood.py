"""NegativeLogLikelihood: the mean logarithmic score of predicted distributions."""

from typing import Any

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.metrics.distribution_mean import DistributionMean, sections


@serializable(name="metrics.NegativeLogLikelihood")
@fill_docstring(sections=sections("NegativeLogLikelihood", "log(2 pi) / 2 = 0.919"))
class NegativeLogLikelihood(DistributionMean):
    """Mean negative logarithm of the density, or probability, of the targets.

    For models whose output is a distribution, such as those that end in `IndependentNormal`.
    Unlike the loss of that name it is averaged over an epoch without regularization terms.

    Args:
        name: String name of the metric. Defaults to `"nll"`.
        dtype: The dtype of the sums; `None` means `keras.config.floatx()`. Defaults to `None`.

    {sections}
    """

    def __init__(self, name: str = "nll", dtype: Any = None):
        super().__init__(name, dtype, direction="down")

    def score(self, y_true: Any, distribution: Any) -> Any:
        """Returns the negative log-likelihood of each member of the batch."""
        return -distribution.log_prob(y_true)
