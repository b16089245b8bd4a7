"""Batches: the rows of an unrolled training and their order; and its validation data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_extras._core.backend import is_traced
from keras_extras._core.data import check_data

# Beyond, the table of the rows of each step takes more than 2 GB.
_MOST_ROWS = 2**28


class Batches(NamedTuple):
    """Rows to train on, and which of them each step takes.

    Args:
        x: Inputs, a tensor or a structure of tensors.
        y: Targets, likewise.
        order: Integer tensor of shape `(steps, batch_size)`.
    """

    x: Any
    y: Any
    order: Any

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(keras.tree.flatten(self.x)[0].shape[0])


def batches_of(
    x: Any,
    y: Any,
    steps: int,
    batch_size: int | None,
    seed: int,
    call: Callable[[Any], Any] | None = None,
) -> Batches:
    """Returns the rows in batches that follow each other through shuffled epochs.

    Args:
        x: Inputs, an array or a structure of arrays.
        y: Targets, likewise.
        steps: Integer, the number of batches.
        batch_size: Integer, or `None` for all rows in each.
        seed: Integer, of the order.
        call: As of `check_data`. Defaults to `None`.
    """
    check_data(x, y, call=call)
    x, y = keras.tree.map_structure(constant, (x, y))
    lengths = _numbers_of_rows((x, y))
    rows = lengths[0]
    size = batch_size or rows
    if len(lengths) != 1 or not 0 < size <= rows:
        raise ValueError(
            "`x` and `y` must have rows, equally many, and not fewer than `batch_size`. "
            f"Received: {lengths} rows, batch_size={batch_size}"
        )
    if steps * size > _MOST_ROWS:
        raise ValueError(
            f"`steps` times the rows of a batch must be at most {_MOST_ROWS:,}. "
            f"Received: {steps} steps of {size} rows"
        )
    generator = np.random.default_rng(seed)
    epochs = -(-steps * size // rows)
    order = np.concatenate([generator.permutation(rows) for _ in range(epochs)])
    order = order[: steps * size].reshape(steps, size)
    return Batches(x, y, ops.convert_to_tensor(order, "int32"))


def validation_tensors(validation_data: Any, call: Callable[[Any], Any] | None = None) -> tuple:
    """Returns `(x, y)` or `(x, y, sample_weight)` of tensors; `call` as of `check_data`."""
    is_tuple = isinstance(validation_data, (tuple, list))
    if not is_tuple or len(validation_data) not in (2, 3):
        raise ValueError(
            "`validation_data` must be a tuple (x, y) or (x, y, sample_weight). Received: "
            f"{type(validation_data).__name__}"
            + (f" of {len(validation_data)} entries" if is_tuple else "")
        )
    check_data(*validation_data, call=call)
    tensors = keras.tree.map_structure(constant, tuple(validation_data))
    lengths = _numbers_of_rows(tensors)
    if len(lengths) != 1 or lengths[0] == 0:
        raise ValueError(
            "The arrays of `validation_data` must have rows, and equally many. "
            f"Received: {lengths} rows"
        )
    return tensors


def constant(values: Any) -> Any:
    """Returns a tensor that depends on nothing, so that an outer tape does not record its use."""
    tensor = ops.convert_to_tensor(values)
    if is_traced(tensor):
        raise ValueError(
            "`UnrolledTraining` returns numbers and must be called outside of compiled functions. "
            "Received: a call inside one"
        )
    return ops.convert_to_tensor(ops.convert_to_numpy(tensor))


def _numbers_of_rows(tensors):
    return sorted({int(t.shape[0]) if len(t.shape) else 0 for t in keras.tree.flatten(tensors)})
