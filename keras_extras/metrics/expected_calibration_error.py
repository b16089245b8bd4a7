"""ExpectedCalibrationError: how far a classifier's confidence is from its accuracy."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_integer, check_same_rows
from keras_extras._core.class_probabilities import class_probabilities
from keras_extras._core.registration import serializable
from keras_extras._core.valid_values import require_values
from keras_extras._seams.metric_direction import set_direction


@serializable
class ExpectedCalibrationError(keras.metrics.Metric):
    """Mean distance of a classifier's confidence from its accuracy.

    The confidence is the probability of the most probable class. Predictions are put into bins of
    equal width by their confidence, the upper end of a bin included, and

    ```
    ECE = sum over bins b of share_b * |accuracy_b - confidence_b|
    ```

    with the means of a bin over all batches of an epoch. It is 0 for a calibrated classifier, up
    to chance, which adds to it in bins with few predictions.

    References:
        Naeini, Cooper and Hauskrecht (2015), "Obtaining well calibrated probabilities using
        Bayesian binning"; Guo, Pleiss, Sun and Weinberger (2017), "On calibration of modern
        neural networks", equation 3, [arXiv:1706.04599](https://arxiv.org/abs/1706.04599).

    Args:
        num_bins: Integer, the number of bins. Defaults to `15`.
        name: String name of the metric. Defaults to `"ece"`.
        dtype: The dtype of the sums, which are kept at least in single precision; `None` means
            `keras.config.floatx()`. Defaults to `None`.

    Raises:
        TypeError: If `num_bins` is not an integer, or, in `update_state`, if the prediction is a
            distribution of something else than classes.
        ValueError: If `num_bins` is not positive, or, in `update_state`, if shapes do not fit, or,
            in eager code, if a label, probability or weight is out of range. In compiled training
            the error is NaN then.

    Example:

    ```python
    import keras_extras

    metric = keras_extras.metrics.ExpectedCalibrationError()
    metric.update_state(y_true=[0, 1, 1, 1], y_pred=[0.1, 0.9, 0.9, 0.9])
    metric.result()  # always right, at a confidence of 0.9: 0.1
    ```
    """

    def __init__(self, num_bins: int = 15, name: str = "ece", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        set_direction(self, "down")
        self.num_bins = check_integer("num_bins", num_bins)
        shape = (self.num_bins,)
        dtype = keras.backend.result_type(self.dtype, "float32")
        self.weight = self.add_variable(shape, "zeros", dtype, name="weight")
        self.confidence = self.add_variable(shape, "zeros", dtype, name="confidence")
        self.correct = self.add_variable(shape, "zeros", dtype, name="correct")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the predictions of a batch to their bins.

        Args:
            y_true: Integer labels of shape `(n,)` or `(n, 1)`, or one-hot labels of shape
                `(n, classes)`.
            y_pred: Probabilities of the positive class of shape `(n,)` or `(n, 1)`, of all
                classes of shape `(n, classes)`, or a distribution over classes.
            sample_weight: Weights of shape `(n,)` or `(n, 1)`, or one for all. Defaults to 1.
        """
        probabilities = ops.cast(class_probabilities(y_pred), self.weight.dtype)
        labels = _labels(y_true, probabilities.shape[-1])
        check_same_rows(labels, probabilities)
        confidence = ops.max(probabilities, axis=-1)
        predicted = ops.cast(ops.argmax(probabilities, axis=-1), "float32")
        correct = ops.cast(ops.equal(predicted, labels), self.weight.dtype)
        weight = ops.ones_like(confidence)
        if sample_weight is not None:
            given = ops.cast(ops.convert_to_tensor(sample_weight), self.weight.dtype)
            weight = weight * (ops.reshape(given, (-1,)) if given.shape else given)
        in_range = ops.logical_and(labels >= 0.0, labels < probabilities.shape[-1])
        is_label = ops.logical_and(in_range, labels == ops.floor(labels))
        # Sums of rounded probabilities exceed 1.
        within = ops.logical_and(probabilities >= 0.0, probabilities <= 1.0 + 1e-3)
        valid = ops.logical_and(is_label, ops.all(within, axis=-1))
        weight = require_values(
            ops.logical_or(weight == 0.0, ops.logical_and(valid, weight > 0.0)),
            weight,
            f"{type(self).__name__} needs labels `y_true` from 0 to "
            f"{probabilities.shape[-1] - 1}, probabilities `y_pred` in [0, 1] and weights of at "
            "least 0.",
            y_true=labels,
            y_pred=probabilities,
            sample_weight=weight,
        )
        # A row without weight does not count, though it is NaN.
        confidence = ops.where(weight > 0, confidence, ops.zeros_like(confidence))
        index = ops.clip(ops.ceil(confidence * self.num_bins) - 1, 0, self.num_bins - 1)
        bins = ops.one_hot(ops.cast(index, "int32"), self.num_bins, dtype=self.weight.dtype)
        self.weight.assign_add(ops.matmul(weight, bins))
        self.confidence.assign_add(ops.matmul(weight * confidence, bins))
        self.correct.assign_add(ops.matmul(weight * correct, bins))

    def result(self) -> Any:
        """Returns the error of all predictions since the last reset."""
        distance = ops.sum(ops.abs(self.correct - self.confidence))
        return ops.divide_no_nan(distance, ops.sum(self.weight))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_bins": self.num_bins}


def _labels(y_true, classes):
    """Labels as floats, so that what is not a whole number shows."""
    y_true = ops.convert_to_tensor(y_true)
    if len(y_true.shape) == 2 and y_true.shape[1] == classes:
        y_true = ops.argmax(y_true, axis=-1)
    elif len(y_true.shape) > 2 or (len(y_true.shape) == 2 and y_true.shape[1] != 1):
        raise ValueError(
            "`y_true` must hold labels, of shape (n,) or (n, 1), or be one-hot, of shape "
            f"(n, {classes}). Received: y_true.shape={tuple(y_true.shape)}"
        )
    return ops.reshape(ops.cast(y_true, "float32"), (-1,))
