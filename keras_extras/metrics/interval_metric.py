"""IntervalMetric: the base of metrics of the central intervals of predicted distributions."""

from typing import Any

from keras_extras._core.checks import check_share
from keras_extras.metrics.distribution_mean import DistributionMean


def sections(name: str) -> str:
    """Returns the arguments and errors of a metric for its docstring, `name` by default."""
    return f"""
    Args:
        level: Float between 0 and 1, the probability of the interval. Defaults to `0.9`.
        name: String name of the metric. Defaults to `"{name}"`.
        dtype: The dtype of the sums; `None` means `keras.config.floatx()`. Defaults to `None`.

    Raises:
        TypeError: If `level` is not a number, or, in `update_state`, if the prediction is no
            distribution.
        ValueError: If `level` is not between 0 and 1, or, in `update_state`, if the targets do
            not have the shape of a draw.

    Programs that JAX compiles, such as training, compute in single precision, which is too coarse
    for distribution functions of beta and binomial distributions of more than 1,000 counts. There
    the result is NaN; `run_eagerly=True` and calls outside of models compute in double precision.
    """


class IntervalMetric(DistributionMean):
    """A mean over the central intervals of a level."""

    def __init__(self, level: float, name: str, dtype: Any):
        super().__init__(name, dtype)
        self.level = check_share("level", level)

    @property
    def ends(self) -> list[float]:
        """The probabilities below the two ends of an interval."""
        return [(1.0 - self.level) / 2.0, (1.0 + self.level) / 2.0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "level": self.level}
