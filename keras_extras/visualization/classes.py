"""Probabilities and labels of classes, of the shapes that users have them in."""

from typing import Any

import numpy as np

from keras_extras._core.class_probabilities import probabilities_of
from keras_extras._core.data import check_numbers
from keras_extras.visualization.arguments import column

_ROUNDING = 1e-2  # of half precision


def class_probabilities(predictions: Any) -> np.ndarray:
    """Returns probabilities of the positive class, `(n,)`, or of all classes, `(n, classes)`."""
    # Not `isinstance`: probabilities in an array do without TensorFlow Probability.
    if hasattr(predictions, "log_prob"):
        predictions = probabilities_of(predictions)
    probabilities = np.asarray(predictions, dtype="float64")
    if probabilities.ndim == 1 or probabilities.shape[1:] == (1,):
        probabilities = column("predictions", probabilities)
    elif probabilities.ndim != 2 or not probabilities.size:
        raise ValueError(
            "`predictions` must have shape (n,), (n, 1) or (n, classes) with n of at least 1. "
            f"Received: predictions.shape={probabilities.shape}"
        )
    check_numbers("predictions", probabilities)
    low, high = np.min(probabilities), np.max(probabilities)
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ValueError(
            "`predictions` must be probabilities in [0, 1], not logits. "
            f"Received: values from {low:g} to {high:g}"
        )
    if probabilities.ndim == 2:
        _check_sums(np.sum(probabilities, axis=1))
    return np.clip(probabilities, 0.0, 1.0)


def class_labels(y_true: Any, rows: int, classes: int) -> np.ndarray:
    """Returns integer labels of shape `(n,)` from such, from `(n, 1)` or from one-hot labels."""
    labels = np.asarray(y_true)
    if classes > 1 and labels.shape == (rows, classes):
        labels = _from_one_hot(labels)
    labels = column("y_true", labels)
    if len(labels) != rows:
        raise ValueError(
            "`y_true` must have one label for each row of `predictions`. "
            f"Received: {len(labels)} labels and {rows} rows"
        )
    wrong = labels[~np.isin(labels, np.arange(classes))]
    if wrong.size:
        raise ValueError(
            f"`y_true` must hold labels from 0 to {classes - 1}. Received: a label of {wrong[0]:g}"
        )
    return labels.astype(int)


def _check_sums(sums):
    wrong = sums[np.abs(sums - 1) > _ROUNDING]
    if wrong.size:
        raise ValueError(
            "`predictions` of several classes must sum to 1 in each row. "
            f"Received: a row with the sum {wrong[0]:g}"
        )


def _from_one_hot(labels):
    if not (np.isin(labels, (0, 1)).all() and (np.sum(labels, axis=1) == 1).all()):
        raise ValueError(
            "`y_true` of shape (n, classes) must be one-hot: one 1 in each row, all others 0. "
            f"Received: values from {np.min(labels):g} to {np.max(labels):g}"
        )
    return np.argmax(labels, axis=1)
