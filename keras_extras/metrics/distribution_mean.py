"""DistributionMean: the base of metrics that average a score of predicted distributions."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.probability import require_probability
from keras_extras._core.targets import match_targets, require_distribution
from keras_extras._seams.metric_direction import set_direction


def sections(metric: str, result: str) -> str:
    """Returns the end of the docstring of a metric without arguments that can be wrong.

    Args:
        metric: Its name.
        result: Its value of two draws of 0 from a standard normal distribution.
    """
    return f"""
    Raises:
        TypeError: In `update_state`, if the prediction is no distribution.
        ValueError: In `update_state`, if the targets do not have the shape of a draw.

    Example:

    ```python
    import keras_extras

    metric = keras_extras.metrics.{metric}()
    metric.update_state([0.0, 0.0], keras_extras.tfp.distributions.Normal([0.0, 0.0], 1.0))
    metric.result()  # {result}
    ```
    """


class DistributionMean(keras.metrics.MeanMetricWrapper):
    """The weighted mean, over all batches, of a score of targets and their distributions.

    Rows that a Keras mask leaves out do not count, as in Keras' own metrics.

    Args:
        name: String name of the metric.
        dtype: The dtype of the sums; `None` means `keras.config.floatx()`.
        direction: `"up"` or `"down"`, which way the metric improves, if it has one.
    """

    def __init__(self, name: str, dtype: Any, direction: str | None = None):
        require_probability(f"keras_extras.metrics.{type(self).__name__}")
        super().__init__(self._scores, name=name, dtype=dtype)
        set_direction(self, direction)

    def score(self, y_true: Any, distribution: Any) -> Any:
        """Returns one score for each member of the batch, or for each of its entries.

        Args:
            y_true: Tensor of targets, in the shape of a draw.
            distribution: A `tfd.Distribution`.
        """
        raise NotImplementedError

    def _scores(self, y_true, y_pred):
        owner = type(self).__name__
        distribution = require_distribution(y_pred, owner)
        y_true = ops.cast(y_true, distribution.dtype)
        return self.score(match_targets(y_true, distribution, owner), distribution)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype}
