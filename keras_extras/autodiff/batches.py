"""Sums over batches that equal the result of one batch of all rows."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras.autodiff.data import Data
from keras_extras.autodiff.differentiated_model import DifferentiatedModel


def sum_over_batches(
    function: DifferentiatedModel,
    compute: Callable[..., list[Any]],
    batch_size: int | None,
    vector: Sequence[Any] | None = None,
) -> list[Any]:
    """Returns `compute(values, data)`, or `compute(values, data, vector)`, over all rows.

    It must be linear in the loss: the loss of all rows is the mean of those of batches, weighted
    by their rows. Results for weights are summed, those for inputs are joined.

    Args:
        function: The model and the data.
        compute: Function from values, data and vector to a list aligned with the values.
        batch_size: Integer; `None` for all rows at once.
        vector: List of tensors aligned with the values; `None` for none.
    """
    num_weights = 0 if function.wrt == "inputs" else len(function.variables)
    sums: list[Any] = []
    joined: list[list[Any]] = []
    for share, rows, data in function.batches(batch_size):
        arguments = [function.values_of(data), data]
        if vector is not None:
            inputs = [part[rows] for part in vector[num_weights:]]
            arguments.append([*vector[:num_weights], *inputs])
        parts = [share * part for part in compute(*arguments)]
        weights = parts[:num_weights]
        sums = [a + b for a, b in zip(sums, weights)] if sums else weights
        joined.append(parts[num_weights:])
    return [
        *sums,
        *(ops.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*joined)),
    ]


def mean_over_batches(
    function: DifferentiatedModel,
    compute: Callable[[Sequence[Any], Data], Any],
    batch_size: int | None,
) -> Any:
    """Returns `compute(values, data)`, a structure that is linear in the loss, over all rows.

    Args:
        function: The model and the data; the values are its weights.
        compute: Function from values and data to a structure of tensors.
        batch_size: Integer; `None` for all rows at once.
    """
    total = None
    for share, _, data in function.batches(batch_size):
        part = keras.tree.map_structure(
            lambda value, share=share: share * value,
            compute(function.values_of(data), data),
        )
        total = part if total is None else keras.tree.map_structure(ops.add, total, part)
    return total
