"""The seam to `tf.data`: which part of a pipeline is repeated.

A `tf.data.Dataset` does not say publicly that it goes through its data several times, and its
cardinality counts all of them. Here its inputs are asked, which are private.
`tests/test_training_set_size.py` is the canary: it fails when a new version of TensorFlow names
them differently.
"""

import warnings
from typing import Any

import keras


def rows_of_one_pass(dataset: Any) -> float | None:
    """Returns the number of rows that a pipeline repeats; None if it repeats nothing.

    A smaller last batch before `repeat` counts as a whole one. If the number is unknown, the
    function warns and returns None.
    """
    try:
        found = _repeated(dataset)
    except _UnknownError as reason:
        warnings.warn(
            f"The dataset is repeated, and its number of rows is unknown because {reason}. Its "
            "rows count as often as they come in an epoch. Give the number of rows in place of "
            "'auto', or leave `repeat` out.",
            stacklevel=4,
        )
        return None
    if found is None:
        return None
    repeated, batchings = found
    return int(repeated.cardinality()) * (1.0 if batchings == 1 else _rows_of_first(repeated))


class _UnknownError(Exception):
    """Says why the number of rows is unknown."""


def _repeated(dataset):
    """The innermost part that is repeated, and how often it is batched behind that."""
    inputs = dataset._inputs()
    kind = type(dataset).__name__.lstrip("_").removesuffix("Dataset")
    found = [part for part in map(_repeated, inputs) if part is not None]
    if kind == "Repeat" and not found:
        if int(inputs[0].cardinality()) < 0:
            raise _UnknownError("the length of what it repeats is")
        return inputs[0], 0
    if not found:
        return None
    if len(inputs) > 1 and kind != "Zip":
        raise _UnknownError("it is put together of several")
    repeated, batchings = max(found, key=lambda part: int(part[0].cardinality()))
    batchings += kind.endswith("Batch")
    batchings -= kind == "Unbatch"
    if batchings not in (-1, 0, 1):
        raise _UnknownError("it is batched several times")
    return repeated, batchings


def _rows_of_first(dataset):
    return keras.tree.flatten(next(iter(dataset.take(1))))[0].shape[0]
