"""IntervalCoverage: how often predicted intervals hold the target."""

from typing import Any

from keras import ops

from keras_extras._core.cdf_around import cdf_around
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.metrics.interval_metric import IntervalMetric, sections


@serializable
@fill_docstring(sections=sections("interval_coverage"))
class IntervalCoverage(IntervalMetric):
    """Share of the targets that lie in the central interval of their predicted distribution.

    The interval of level `c` lies between the quantiles `(1 - c) / 2` and `(1 + c) / 2`, ends
    included. A calibrated model of continuous targets covers a share `c`; less means
    overconfidence. Intervals of counts hold whole numbers and cover at least `c`. Of vectors
    each entry counts by itself.

    For several levels take several metrics, each with its own `name`.

    Whether a target is inside is decided by the distribution function; distributions that have
    none are judged by 1,000 draws.

    {sections}

    Example:

    ```python
    import keras_extras

    metric = keras_extras.metrics.IntervalCoverage(level=0.9)
    normal = keras_extras.tfp.distributions.Normal([0.0, 0.0, 0.0], 1.0)
    metric.update_state([0.0, 1.0, 2.0], normal)
    metric.result()  # 2 of 3 within 1.64 standard deviations
    ```
    """

    def __init__(self, level: float = 0.9, name: str = "interval_coverage", dtype: Any = None):
        super().__init__(level, name, dtype)

    def score(self, y_true: Any, distribution: Any) -> Any:
        """Returns 1 for each entry inside of its interval, 0 for the others, NaN for NaN."""
        low, high = self.ends
        before, at = cdf_around(distribution, y_true)
        # A count is beyond the quantile as soon as those before it reach the probability.
        not_passed = ops.where(before < at, before < high, before <= high)
        covered = ops.cast(ops.logical_and(at >= low, not_passed), self.dtype)
        return ops.where(ops.isnan(at), float("nan"), covered)
