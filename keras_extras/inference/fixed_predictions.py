"""Predictions that are the same whenever they are made."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def num_rows(x: Any) -> int:
    """Returns how many rows inputs have.

    Args:
        x: Inputs, an array of shape `(n, ...)` or a structure of arrays.

    Raises:
        TypeError: If they are no arrays.
        ValueError: If there is no row, or arrays have different numbers of rows.
    """
    leaves = keras.tree.flatten(x)
    if not leaves or not all(getattr(leaf, "shape", ()) for leaf in leaves):
        raise TypeError(
            "`x` must be an array with one row for each example, or a structure of such arrays. "
            f"Received: a value of type {type(x).__name__}"
        )
    lengths = {leaf.shape[0] for leaf in leaves}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            "`x` must have rows, equally many in all its arrays. "
            f"Received: arrays of lengths {sorted(lengths)}"
        )
    return lengths.pop()


def check_not_random(predict: Callable[[Any], np.ndarray], x: Any) -> None:
    """Raises if two predictions of one row differ, as with Bayesian weights or MCDropout.

    Args:
        predict: Function from inputs to an array.
        x: Inputs, an array of shape `(n, ...)` or a structure of arrays.

    Raises:
        TypeError: If inputs are no arrays.
        ValueError: If they differ, or there is no row.
    """
    num_rows(x)
    row = keras.tree.map_structure(lambda values: values[:1], x)
    if not np.allclose(predict(row), predict(row), rtol=1e-5, atol=1e-6, equal_nan=True):
        raise ValueError(
            "Two predictions of the same row differ: layers such as `DenseFlipout` and `MCDropout` "
            "draw at every call. Take a fixed seed, as in "
            "`lambda x: keras_extras.predict_distribution(model, x, seed=0)`."
        )
