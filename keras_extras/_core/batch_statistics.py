"""The statistics of batch normalization at weights that they were not collected at."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import check_integer
from keras_extras._core.model_function import evaluate
from keras_extras._seams.layers_within import layers_within


def batch_statistics(model: keras.Model) -> list[keras.Variable]:
    """Returns the moving means and variances that training with the model assigns."""
    return [v for layer in _layers(model) for v in (layer.moving_mean, layer.moving_variance)]


def renewed_statistics(
    model: keras.Model, weights: Sequence[Any], x: Any, batch_size: int
) -> list[np.ndarray]:
    """Returns what `batch_statistics` are with other weights: means over the batches of data.

    The model keeps its own. Layers behave as in training.

    Args:
        model: Built Keras model.
        weights: Arrays in the order of `model.trainable_variables`.
        x: Inputs, an array of shape `(n, ...)` or a structure of arrays.
        batch_size: Integer, rows of a batch.

    Raises:
        TypeError: If `x` has no rows.
        ValueError: If its arrays have no row, or not equally many.
    """
    batch_size = check_integer("batch_size", batch_size)
    num_rows = _num_rows(x)
    variables = batch_statistics(model)
    # Of zero, a step of the moving statistics leaves this share of those of the batch.
    shares = [1.0 - layer.momentum for layer in _layers(model) for _ in range(2)]
    weights = [
        ops.convert_to_tensor(w, v.dtype) for w, v in zip(weights, model.trainable_variables)
    ]
    totals = [np.zeros(tuple(v.shape)) for v in variables]
    for first in range(0, num_rows, batch_size):
        found = evaluate(
            model,
            _rows(x, slice(first, first + batch_size)),
            training=True,
            weights=weights,
            state=[(v, ops.zeros(v.shape, v.dtype)) for v in variables],
            penalties=False,
        )
        new = {id(v): ops.convert_to_numpy(value) for v, value in found.assigned}
        rows = min(batch_size, num_rows - first)
        for total, variable, share in zip(totals, variables, shares):
            total += rows / share * new[id(variable)]
    return [(total / num_rows).astype(v.dtype) for total, v in zip(totals, variables)]


def _layers(model):
    return [
        layer
        for layer in layers_within(model)
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and layer.momentum < 1.0
    ]


def _rows(x, rows):
    return keras.tree.map_structure(lambda values: ops.convert_to_tensor(values[rows]), x)


def _num_rows(x):
    leaves = keras.tree.flatten(x)
    if not leaves or not all(getattr(values, "shape", ()) for values in leaves):
        raise TypeError(
            "`x` must be an array with one row for each example, or a structure of such arrays. "
            "Of a `tf.data.Dataset` of batches of inputs and targets take "
            f"`np.concatenate([x for x, y in dataset])`. Received: a {type(x).__name__}"
        )
    lengths = {len(values) for values in leaves}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            "`x` must have rows, equally many in all its arrays. "
            f"Received: arrays of lengths {sorted(lengths)}"
        )
    return lengths.pop()
