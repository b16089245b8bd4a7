"""ApproximateMedianSignificance: the discovery significance of a selection of events."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_number, check_same_rows
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras._core.significance import REFERENCES, approximate_median_significance
from keras_extras._core.valid_values import require_values
from keras_extras._seams.metric_direction import set_direction


@serializable
@fill_docstring(references=REFERENCES)
class ApproximateMedianSignificance(keras.metrics.Metric):
    """Approximate median significance (AMS) of the events that a classifier selects.

    An event is selected if its prediction is greater than `threshold`. With `s` and `b` the sums
    of the weights of the selected signal and background events, and `b_r` the regularization,

    ```
    AMS = sqrt(2 * ((s + b + b_r) * log(1 + s / (b + b_r)) - s))
    ```

    the median significance, in standard deviations, with which a counting experiment that expects
    `s` signal and `b` background events would reject that there is background only. For `s` much
    less than `b` it is close to `s / sqrt(b + b_r)`.

    The weights are the `sample_weight` of each event, usually the number of events it stands for.
    Keras hands weights only to metrics in `weighted_metrics`, so put this metric there; in
    `metrics` it counts every event as one. `s` and `b` are summed over all batches of an epoch,
    and the formula is applied to the totals. The AMS grows with the total weight: on a part of
    the events, first scale the weights up to the total of all.

    Labels other than 0 and 1 and predictions that are NaN are an error in eager code, and make the
    AMS NaN in compiled training; where a weight is 0 both may be anything. Where negative weights
    make `s` negative, the AMS is 0.

    {references}

    Args:
        threshold: Float. Events with a greater prediction are selected. Defaults to `0.5`.
        regularization: Float of at least 0, the term `b_r` added to the background, in the units
            of the weights. It keeps selections of very few events from looking significant.
            Defaults to `10.0`.
        name: String name of the metric. Defaults to `"ams"`.
        dtype: The dtype of the sums, which are kept at least in single precision; `None` means
            `keras.config.floatx()`. Defaults to `None`.

    Raises:
        TypeError: If `threshold` or `regularization` is not a number.
        ValueError: If they are not finite, if `regularization` is negative, or, in
            `update_state`, if an input holds more than one value for each event, or, in eager
            code, a label other than 0 and 1 or a prediction that is NaN.

    Example:

    ```python
    import keras_extras

    metric = keras_extras.metrics.ApproximateMedianSignificance()
    metric.update_state(
        y_true=[1, 1, 0, 0],
        y_pred=[0.9, 0.2, 0.7, 0.1],
        sample_weight=[50.0, 50.0, 90.0, 900.0],
    )
    metric.result()  # 4.652: s = 50, b = 90
    ```

    In a model:

    ```python
    import keras
    import keras_extras

    model = keras.Sequential([keras.layers.Dense(1, activation="sigmoid")])
    model.compile(
        loss="binary_crossentropy",
        weighted_metrics=[keras_extras.metrics.ApproximateMedianSignificance(threshold=0.8)],
    )
    ```
    """

    def __init__(
        self,
        threshold: float = 0.5,
        regularization: float = 10.0,
        name: str = "ams",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        set_direction(self, "up")
        self.threshold = check_number("threshold", threshold)
        self.regularization = check_number("regularization", regularization, at_least=0.0)
        dtype = keras.backend.result_type(self.dtype, "float32")
        self.signal = self.add_variable((), "zeros", dtype, name="signal")
        self.background = self.add_variable((), "zeros", dtype, name="background")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the weights of the selected events to the sums.

        Args:
            y_true: Labels of shape `(n,)` or `(n, 1)`, 1 for signal and 0 for background.
            y_pred: Predictions, the greater the more like signal, of shape `(n,)` or `(n, 1)`.
            sample_weight: Weights of shape `(n,)` or `(n, 1)`, or one for all. Defaults to 1.
        """
        weight = _flat(
            "sample_weight", 1.0 if sample_weight is None else sample_weight, self.signal.dtype
        )
        y_true, y_pred = (
            _flat(name, values, self.signal.dtype)
            for name, values in (("y_true", y_true), ("y_pred", y_pred))
        )
        check_same_rows(y_true, y_pred)
        selected, is_signal = y_pred > self.threshold, y_true > 0.5
        # `where`, not a product: the weight of an event that is not selected may be NaN.
        signal = ops.where(ops.logical_and(selected, is_signal), weight, 0.0)
        background = ops.where(ops.logical_and(selected, ~is_signal), weight, 0.0)
        is_label = ops.logical_or(y_true == 0.0, y_true == 1.0)
        valid = ops.logical_and(is_label, ~ops.isnan(y_pred))
        sums = require_values(
            ops.logical_or(valid, weight == 0.0),
            ops.stack([ops.sum(signal), ops.sum(background)]),
            "ApproximateMedianSignificance needs labels `y_true` of 0 and 1 and predictions "
            "`y_pred` that are not NaN, except where the weight is 0.",
            y_true=y_true,
            y_pred=y_pred,
        )
        self.signal.assign_add(sums[0])
        self.background.assign_add(sums[1])

    def result(self) -> Any:
        """Returns the AMS of all events since the last reset."""
        return approximate_median_significance(self.signal, self.background, self.regularization)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "threshold": self.threshold,
            "regularization": self.regularization,
        }


def _flat(name, values, dtype):
    values = ops.cast(ops.convert_to_tensor(values), dtype)
    if len(values.shape) > 2 or (len(values.shape) == 2 and values.shape[1] != 1):
        raise ValueError(
            f"`{name}` must have shape (n,) or (n, 1), one value for each event. "
            f"Received: {name}.shape={tuple(values.shape)}. "
            "Of a two-column softmax pass the column of the signal."
        )
    return ops.reshape(values, (-1,))
