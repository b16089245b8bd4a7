"""IntervalWidth: how wide predicted intervals are."""

from typing import Any

from keras_extras._core.checks import check_share
from keras_extras._core.probability import tf
from keras_extras._core.quantiles import quantile
from keras_extras._core.registration import serializable
from keras_extras.metrics.distribution_mean import DistributionMean


@serializable
class IntervalWidth(DistributionMean):
    """Mean width of the central intervals of predicted distributions.

    The interval of level `c` lies between the quantiles `(1 - c) / 2` and `(1 + c) / 2`. Of two
    models whose intervals hold the target as often, the one with narrower intervals is the more
    informative. Of vectors each entry counts by itself.

    Quantiles that a distribution does not have are found by inverting its distribution function,
    or from 1,000 draws.

    Args:
        level: Float between 0 and 1, the probability of the interval. Defaults to `0.9`.
        name: String name of the metric. Defaults to `"interval_width"`.
        dtype: The dtype of the sums; `None` means `keras.config.floatx()`. Defaults to `None`.

    Raises:
        TypeError: If `level` is not a number, or, in `update_state`, if the prediction is no
            distribution.
        ValueError: If `level` is not between 0 and 1, or, in `update_state`, if the targets do
            not have the shape of a draw.

    Example:

    ```python
    import tensorflow_probability as tfp
    import keras_extras

    metric = keras_extras.metrics.IntervalWidth(level=0.9)
    metric.update_state([0.0, 1.0], tfp.distributions.Normal([0.0, 0.0], [1.0, 2.0]))
    metric.result()  # (3.29 + 6.58) / 2
    ```
    """

    def __init__(self, level: float = 0.9, name: str = "interval_width", dtype: Any = None):
        super().__init__(name, dtype)
        self.level = check_share("level", level)

    def score(self, y_true: Any, distribution: Any) -> Any:
        """Returns the width of each entry's interval.

        Args:
            y_true: Tensor of targets, of which only the shape matters.
            distribution: A `tfd.Distribution`.
        """
        ends = quantile(distribution, [(1.0 - self.level) / 2.0, (1.0 + self.level) / 2.0])
        width = ends[1] - ends[0]
        # One distribution for all rows has one width for each.
        return tf.cast(width, self.dtype) + tf.zeros_like(y_true, dtype=self.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "level": self.level}
