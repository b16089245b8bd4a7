"""BrierScore: the squared error of predicted probabilities of classes."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_flag, check_same_rows
from keras_extras._core.class_probabilities import class_probabilities
from keras_extras._core.masks import mask_of
from keras_extras._core.registration import serializable
from keras_extras._core.valid_values import require_values
from keras_extras._seams.metric_direction import set_direction


@serializable
class BrierScore(keras.metrics.Metric):
    """Mean squared error of a classifier's probabilities.

    ```
    score = sum over classes k of (p_k - [y = k])**2    three classes or more
    score = (p_1 - y)**2                                two classes
    ```

    It is a proper scoring rule: only the true probabilities have the lowest expected score, so it
    falls both as a classifier separates classes better and as it is calibrated better. The score
    of two classes, given in one column or in two, is half the sum over both, as in
    `sklearn.metrics.brier_score_loss`. Entries that a Keras mask leaves out do not count.

    References:
        Brier (1950), "Verification of forecasts expressed in terms of probability"; Gneiting and
        Raftery (2007), "Strictly proper scoring rules, prediction, and estimation".

    Args:
        from_logits: Boolean, whether tensors of predictions are logits rather than probabilities.
            Distributions are taken as they are. Defaults to `False`.
        name: String name of the metric. Defaults to `"brier_score"`.
        dtype: The dtype of the sums, which are kept at least in single precision; `None` means
            `keras.config.floatx()`. Defaults to `None`.

    Raises:
        TypeError: If `from_logits` is not a boolean, or, in `update_state`, if the prediction is a
            distribution of something else than classes.
        ValueError: In `update_state`, if shapes do not fit, or, in eager code, if a label,
            probability or weight is out of range. In compiled training the score is NaN then.

    Example:

    ```python
    import keras_extras

    metric = keras_extras.metrics.BrierScore()
    metric.update_state(y_true=[0, 1, 1, 1], y_pred=[0.1, 0.9, 0.9, 0.7])
    metric.result()  # (3 * 0.1**2 + 0.3**2) / 4 = 0.03
    ```
    """

    def __init__(self, from_logits: bool = False, name: str = "brier_score", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        set_direction(self, "down")
        self.from_logits = check_flag("from_logits", from_logits)
        dtype = keras.backend.result_type(self.dtype, "float32")
        self.total = self.add_variable((), "zeros", dtype, name="total")
        self.weight = self.add_variable((), "zeros", dtype, name="weight")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the scores of a batch.

        Args:
            y_true: Integer labels of shape `(n, ...)` or `(n, ..., 1)`, or one-hot labels of shape
                `(n, ..., classes)`.
            y_pred: Probabilities, or logits, of the positive class of shape `(n,)` or
                `(n, ..., 1)`, of all classes of shape `(n, ..., classes)`, or a distribution over
                classes with one entry for each row.
            sample_weight: Weights of shape `(n,)`, `(n, 1)` or `(n, ...)`, or one for all. Defaults
                to 1.
        """
        is_distribution = hasattr(y_pred, "log_prob")
        y_pred = y_pred if is_distribution else ops.convert_to_tensor(y_pred)
        # A distribution that does not come from a layer bears no mask.
        bears_mask = not is_distribution or hasattr(y_pred, "tensor_distribution")
        mask = mask_of(y_pred) if bears_mask else None
        probabilities = self._probabilities(y_pred)
        entries = ops.shape(y_pred)[:-1] if len(y_pred.shape) > 2 else (-1,)
        targets, is_label, given = _one_hot(y_true, probabilities, self.weight.dtype, len(entries))
        check_same_rows(targets, probabilities)
        weight = self._weights(sample_weight, mask, probabilities, entries)
        # Sums of rounded probabilities differ from 1.
        within = ops.logical_and(probabilities >= -1e-3, probabilities <= 1.0 + 1e-3)
        is_whole = ops.abs(ops.sum(probabilities, axis=-1) - 1.0) <= 1e-2
        valid = ops.logical_and(is_label, ops.logical_and(ops.all(within, axis=-1), is_whole))
        weight = require_values(
            ops.logical_or(weight == 0.0, ops.logical_and(valid, weight > 0.0)),
            weight,
            f"{type(self).__name__} needs labels `y_true` from 0 to "
            f"{probabilities.shape[-1] - 1} or one-hot, probabilities `y_pred` in [0, 1] that sum "
            "to 1, or `from_logits=True`, and weights of at least 0.",
            y_true=given,
            y_pred=probabilities,
            sample_weight=weight,
        )
        scores = ops.sum(ops.square(probabilities - targets), axis=-1)
        if probabilities.shape[-1] == 2:
            scores = 0.5 * scores
        # A row without weight does not count, though it is NaN.
        scores = ops.where(weight == 0.0, ops.zeros_like(scores), scores)
        self.total.assign_add(ops.sum(weight * scores))
        self.weight.assign_add(ops.sum(weight))

    def _probabilities(self, y_pred):
        """Of shape `(entries, classes)`."""
        if hasattr(y_pred, "log_prob"):
            return ops.cast(class_probabilities(y_pred), self.weight.dtype)
        if len(y_pred.shape) > 2:
            y_pred = ops.reshape(y_pred, (-1, y_pred.shape[-1]))
        y_pred = ops.cast(y_pred, self.weight.dtype)
        if self.from_logits:
            is_single = len(y_pred.shape) < 2 or y_pred.shape[-1] == 1
            y_pred = ops.sigmoid(y_pred) if is_single else ops.softmax(y_pred)
        return class_probabilities(y_pred)

    def _weights(self, sample_weight, mask, probabilities, entries):
        """Of shape `(entries,)`."""
        weight = ops.ones_like(probabilities[:, 0])
        for factor in (sample_weight, mask):
            if factor is None:
                continue
            factor = ops.cast(ops.convert_to_tensor(factor), self.weight.dtype)
            if len(entries) > 1:
                while 0 < len(factor.shape) < len(entries):
                    factor = factor[..., None]
                factor = ops.broadcast_to(factor, entries)
            weight = weight * (ops.reshape(factor, (-1,)) if factor.shape else factor)
        return weight

    def result(self) -> Any:
        """Returns the mean score of all predictions since the last reset."""
        return ops.divide_no_nan(self.total, self.weight)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "from_logits": self.from_logits}


def _one_hot(y_true, probabilities, dtype, rank):
    """One-hot labels of shape `(entries, classes)`, which of them are labels, and those given."""
    classes = probabilities.shape[-1]
    y_true = ops.cast(ops.convert_to_tensor(y_true), dtype)
    shape = tuple(y_true.shape)
    if len(shape) == rank + 1 and shape[-1] == classes:
        targets = ops.reshape(y_true, (-1, classes))
        is_bit = ops.all(ops.logical_or(targets == 0.0, targets == 1.0), axis=-1)
        return targets, ops.logical_and(is_bit, ops.sum(targets, axis=-1) == 1.0), targets
    if len(shape) != rank and not (len(shape) == rank + 1 and shape[-1] == 1):
        raise ValueError(
            "`y_true` must hold labels, one for each prediction, perhaps with a last axis of "
            f"length 1, or be one-hot with a last axis of length {classes}. "
            f"Received: y_true.shape={shape}"
        )
    labels = ops.reshape(y_true, (-1,))
    is_whole = ops.logical_and(labels == ops.floor(labels), labels >= 0.0)
    is_label = ops.logical_and(is_whole, labels < classes)
    index = ops.cast(ops.where(is_label, labels, ops.zeros_like(labels)), "int32")
    return ops.one_hot(index, classes, dtype=dtype), is_label, labels
