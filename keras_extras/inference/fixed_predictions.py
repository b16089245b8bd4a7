"""Predictions that are the same whenever they are made."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def check_not_random(predict: Callable[[Any], np.ndarray], x: Any) -> None:
    """Raises if two predictions of one row differ, as with Bayesian weights or MCDropout.

    Args:
        predict: Function from inputs to an array.
        x: Inputs, an array of shape `(n, ...)` or a structure of arrays.

    Raises:
        ValueError: If they differ, or there is no row.
    """
    lengths = {len(values) for values in keras.tree.flatten(x)}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            "`x` must have rows, equally many in all its arrays. "
            f"Received: arrays of lengths {sorted(lengths)}"
        )
    row = keras.tree.map_structure(lambda values: values[:1], x)
    if not np.allclose(predict(row), predict(row), rtol=1e-5, atol=1e-6, equal_nan=True):
        raise ValueError(
            "Two predictions of the same row differ: layers such as `DenseFlipout` and `MCDropout` "
            "draw at every call. Take a fixed seed, as in "
            "`lambda x: keras_extras.predict_distribution(model, x, seed=0)`."
        )
