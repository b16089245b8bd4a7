"""BatchLoss: the base of losses that are not a mean over rows."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.valid_values import require_values
from keras_extras.losses.piecewise_constant import PiecewiseConstantLoss


class BatchLoss(PiecewiseConstantLoss):
    """A loss of a whole batch, in whose formula the sample weights stand.

    Keras multiplies the losses of rows by their weights. A loss that is no sum over rows needs the
    weights themselves: `score` gets them, with the mask of the predictions applied, and returns
    a scalar, so that there is nothing to reduce. A prediction that is NaN makes the loss NaN,
    unless its row has no weight. Labels other than 0 and 1 are an error in eager code and make the
    loss NaN in compiled training.

    Args:
        name: String name of the loss.
        dtype: The dtype of the loss.
        single_column: Boolean, whether there must be one prediction for each row.
    """

    def __init__(self, name: str, dtype: Any, single_column: bool):
        super().__init__(name=name, dtype=dtype)
        self._single_column = single_column
        self._row_weights = _RowWeights(reduction="none", dtype=dtype)

    def score(self, y_true: Any, y_pred: Any, weights: Any) -> Any:
        """Returns the loss of the batch, a scalar; to be overridden.

        Args:
            y_true: Tensor of labels of shape `(n, columns)`.
            y_pred: Tensor of predictions of the same shape, without NaN.
            weights: Tensor of shape `(n, 1)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `score`.")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        labels, predictions = (
            ops.convert_to_tensor(values, dtype=self.dtype) for values in (y_true, y_pred)
        )
        self._check_shapes(labels.shape, predictions.shape)
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight, dtype=self.dtype)
            _check_weights(type(self).__name__, sample_weight.shape)
        # Of `y_pred` as it came: converted to another dtype, it has no mask any more.
        weights = ops.reshape(self._row_weights(labels, y_pred, sample_weight), (-1, 1))
        predictions = _in_columns(predictions)
        is_nan = ops.isnan(predictions)
        loss = self.score(_in_columns(labels), ops.where(is_nan, 0.0, predictions), weights)
        is_broken = ops.any(ops.logical_and(is_nan, weights != 0.0))
        labels = _in_columns(labels)
        is_label = ops.logical_or(labels == 0.0, labels == 1.0)
        return require_values(
            ops.all(ops.logical_or(is_label, weights == 0.0), axis=-1),
            ops.where(is_broken, float("nan"), loss),
            f"{type(self).__name__} needs labels `y_true` of 0 and 1, but where weights are 0.",
            y_true=labels,
        )

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self(y_true, y_pred)

    def _check_shapes(self, y_true, y_pred):
        owner = type(self).__name__
        received = f"Received: y_true.shape={tuple(y_true)}, y_pred.shape={tuple(y_pred)}"
        if 0 in (len(y_true), len(y_pred), *y_true, *y_pred):
            raise ValueError(f"{owner} needs `y_true` and `y_pred` with rows. {received}")
        columns = 1 if len(y_pred) == 1 else y_pred[-1]
        if self._single_column and (len(y_pred) not in (1, 2) or columns != 1):
            raise ValueError(
                f"{owner} needs one prediction for each row, of shape (n,) or (n, 1): end the "
                f"model in `Dense(1)`. {received}"
            )
        if len(y_pred) not in (1, 2):
            raise ValueError(
                f"{owner} needs predictions of shape (n,) or (n, columns). Reshape what has more "
                f"axes. {received}"
            )
        labeled = 1 if len(y_true) == 1 else y_true[-1]
        rows_differ = None not in (y_true[0], y_pred[0]) and y_true[0] != y_pred[0]
        if len(y_true) not in (1, 2) or labeled != columns or rows_differ:
            raise ValueError(
                f"{owner} needs as many labels as predictions: `y_true` must have shape "
                f"{'(n,) or (n, 1)' if columns == 1 else f'(n, {columns})'}. Integer classes "
                f"become columns by `keras.utils.to_categorical`. {received}"
            )

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "dtype": self.dtype}
        del config["reduction"]
        return config


class _RowWeights(keras.losses.Loss):
    """A loss of one for each row: what Keras makes of it are the weights, with the mask."""

    def call(self, y_true, y_pred):
        # Not of `y_pred`, which is another tensor for every candidate of a population.
        return ops.ones(ops.shape(y_true)[:1], dtype=self.dtype)


def _in_columns(values):
    return values if len(values.shape) == 2 else values[:, None]


def _check_weights(owner, shape):
    if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        raise ValueError(
            f"{owner} needs one weight for each row: `sample_weight` must have shape (n,) or "
            f"(n, 1). Received: sample_weight.shape={tuple(shape)}"
        )
