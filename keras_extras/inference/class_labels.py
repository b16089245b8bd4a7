"""Labels and probabilities of classes, as arrays that were checked."""

from typing import Any

import keras
import numpy as np


def class_indices(y: Any, num_classes: int, num_rows: int) -> np.ndarray:
    """Returns labels as integers of shape `(n,)`.

    Args:
        y: Integer labels of shape `(n,)` or `(n, 1)`, or one-hot labels of shape `(n, classes)`.
        num_classes: Integer, how many classes there are.
        num_rows: Integer, how many labels there must be.

    Raises:
        ValueError: If labels are of another shape, or are no labels.
    """
    y = np.asarray(keras.ops.convert_to_numpy(y))
    is_one_hot = y.ndim == 2 and y.shape[1] == num_classes and num_classes > 1
    if len(y) != num_rows or not (y.ndim == 1 or is_one_hot or y.shape[1:] == (1,)):
        raise ValueError(
            f"`y` must hold labels of shape ({num_rows},) or ({num_rows}, 1), or be one-hot of "
            f"shape ({num_rows}, {num_classes}). Received: y.shape={y.shape}"
        )
    if is_one_hot:
        if not (np.isin(y, (0, 1)).all() and np.all(y.sum(axis=1) == 1)):
            raise ValueError("One-hot `y` must have one 1 in each row, and zeros elsewhere.")
        return np.argmax(y, axis=1)
    y = y.reshape(-1)
    valid = np.isin(y, np.arange(num_classes))
    if not valid.all():
        raise ValueError(
            f"`y` must hold labels from 0 to {num_classes - 1}, as the predictions have "
            f"{num_classes} classes. Received: {y[~valid][:3].tolist()}"
        )
    return y.astype("int64")


def check_probabilities(values: np.ndarray) -> None:
    """Raises unless an array of shape `(n, classes)` or `(n, 1)` holds probabilities.

    Args:
        values: The array.

    Raises:
        ValueError: If it does not.
    """
    is_within = np.all((values >= -1e-3) & (values <= 1.0 + 1e-3))
    is_whole = values.shape[1] == 1 or np.all(np.abs(values.sum(axis=1) - 1.0) < 1e-2)
    if not (is_within and is_whole):
        raise ValueError(
            "Predictions must be probabilities, in [0, 1] and of several classes with the sum 1. "
            "For logits, set `from_logits=True`. "
            f"Received: {values[:2].tolist()} as the first predictions"
        )
