"""How many different batches an epoch of `fit` has."""

import math
import types
from typing import Any

import keras
import numpy as np

from keras_extras._seams.repeated_dataset import is_repeatable

_DEFAULT_BATCH_SIZE = 32


def batches_per_epoch(x: Any, size: float, batch_size: int | None, steps: int | None) -> int:
    """Returns the number of batches of an epoch, 1 for one batch that repeats, 0 if unknown.

    Args:
        x: The first argument of `fit`.
        size: The number of rows, 0 if unknown.
        batch_size: The argument of `fit`.
        steps: The argument `steps_per_epoch` of `fit`.
    """
    if hasattr(x, "cardinality"):  # tf.data.Dataset
        length = int(x.cardinality())
        length = length if length >= 0 else steps or 0
        return 1 if length > 1 and is_repeatable(x) and _repeats(x) else length
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches or steps or 0
    if isinstance(x, types.GeneratorType):
        return steps or 0
    if hasattr(x, "dataset") and hasattr(x, "__len__"):  # torch's DataLoader
        return len(x)
    return math.ceil(size / (batch_size or _DEFAULT_BATCH_SIZE))


def _repeats(dataset):
    """Whether the first two batches are the same."""
    batches = [keras.tree.flatten(batch) for batch in dataset.take(2)]
    return len(batches) == 2 and all(
        np.array_equal(*map(keras.ops.convert_to_numpy, pair)) for pair in zip(*batches)
    )
