"""IntervalWidth: how wide predicted intervals are."""

from typing import Any

from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.quantiles import quantile
from keras_extras._core.registration import serializable
from keras_extras.metrics.interval_metric import IntervalMetric, sections


@serializable
@fill_docstring(sections=sections("interval_width"))
class IntervalWidth(IntervalMetric):
    """Mean width of the central intervals of predicted distributions.

    The interval of level `c` lies between the quantiles `(1 - c) / 2` and `(1 + c) / 2`. Of two
    models whose intervals hold the target as often, the one with narrower intervals is the more
    informative. Of vectors each entry counts by itself.

    Quantiles that a distribution does not have are found by inverting its distribution function,
    or from 1,000 draws.

    {sections}

    Example:

    ```python
    import keras_extras

    metric = keras_extras.metrics.IntervalWidth(level=0.9)
    metric.update_state([0.0, 1.0], keras_extras.tfp.distributions.Normal([0.0, 0.0], [1.0, 2.0]))
    metric.result()  # (3.29 + 6.58) / 2
    ```
    """

    def __init__(self, level: float = 0.9, name: str = "interval_width", dtype: Any = None):
        super().__init__(level, name, dtype)

    def score(self, y_true: Any, distribution: Any) -> Any:
        """Returns the width of each entry's interval."""
        ends = quantile(distribution, self.ends)
        width = ends[1] - ends[0]
        # One distribution for all rows has one width for each.
        return ops.cast(width, self.dtype) + ops.zeros_like(y_true, dtype=self.dtype)
