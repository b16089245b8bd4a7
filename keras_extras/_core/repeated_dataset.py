"""The seam to `tf.data`: which part of a pipeline is repeated, and what in it is random.

A `tf.data.Dataset` says publicly neither that it goes through its data several times, which its
cardinality counts, nor that it draws random numbers. Here its inputs and functions are asked, which
are private. `tests/test_training_set_size.py` and `tests/test_resumed_data.py` are the canaries:
they fail when a new version of TensorFlow names them differently.
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
    length = int(repeated.cardinality())
    in_each = 1 if batchings == 1 else _rows_of_first(repeated)
    if length == 1 and in_each in (None, 1):
        return None  # Not data, but the start of functions that make data.
    # Elements without an axis are numbers or names from which batches are made.
    return float(length * (in_each or _rows_of_first(dataset)))


def chance_in(dataset: Any) -> str | None:
    """Returns what makes a pipeline another one in each process, as the end of a sentence about
    it; `None` if nothing is known to."""
    import tensorflow as tf

    operations = [
        operation
        for function in dataset._functions()
        for operation in _with_inner(function.function.graph)
    ]
    if any("PyFunc" in operation.type for operation in operations):
        return "with Python functions, which may draw what they like"
    if hasattr(dataset, "_seed2") and not (int(dataset._seed) or int(dataset._seed2)):
        return f"that draws random numbers without a seed ({_kind(dataset)})"
    for operation in operations:
        if operation.type.startswith("ShuffleDataset"):
            seeds = [
                tf.get_static_value(value) for value in operation.inputs if value.dtype == tf.int64
            ][1:3]
        elif {"seed", "seed2"} <= set(operation.node_def.attr):
            seeds = [operation.get_attr("seed"), operation.get_attr("seed2")]
        else:
            continue
        if not any(seed != 0 for seed in seeds):
            return f"that draws random numbers without a seed ({operation.type})"
    return next(filter(None, map(chance_in, dataset._inputs())), None)


def _with_inner(graph):
    """The operations of a graph and of the functions that they call."""
    yield from graph.get_operations()
    for function in graph._functions.values():
        yield from function.graph.get_operations()


class _UnknownError(Exception):
    """Says why the number of rows is unknown."""


# Steps of a pipeline whose elements are those of their input, one for one.
_ONE_FOR_ONE = (
    *("Map", "ParallelMap", "Filter", "TakeWhile", "Take", "Skip", "Repeat", "Shuffle"),
    *("Cache", "CacheData", "Prefetch", "Options", "AssertCardinality", "IgnoreErrors", "Zip"),
    *("Snapshot", "Rebatch", "Restructured", "DenseToRagged", "DatasetV1Adapter"),
)
_BATCHES = ("Batch", "ParallelBatch", "PaddedBatch", "MapAndBatch", "DenseToRaggedBatch")


def _repeated(dataset):
    """The innermost part that is repeated, and how often it is batched behind that."""
    kind, inputs = _kind(dataset), dataset._inputs()
    found = [(part, _repeated(part)) for part in inputs]
    repeated = [pair for _, pair in found if pair is not None]
    if not repeated:
        if kind != "Repeat":
            return None
        if int(inputs[0].cardinality()) < 0:
            raise _UnknownError("the length of what it repeats is")
        return inputs[0], 0
    is_beside_others = kind == "Scan" or len(repeated) < len(found)
    if is_beside_others and all(int(part.cardinality()) == 1 for part, _ in repeated):
        return None  # A counter, or a constant beside the data.
    if kind == "Zip":
        others = [part for part, pair in found if pair is None and not _is_index(part)]
        if others:
            raise _UnknownError("it is zipped with data that is not repeated")
    elif kind not in (*_ONE_FOR_ONE, *_BATCHES, "Unbatch"):
        raise _UnknownError(f"a step {kind!r} follows")
    part, batchings = max(repeated, key=lambda pair: int(pair[0].cardinality()))
    batchings += (kind in _BATCHES) - (kind == "Unbatch")
    if batchings not in (-1, 0, 1):
        raise _UnknownError("it is batched several times")
    return part, batchings


def _is_index(dataset):
    return _kind(dataset) == "Range" or int(dataset.cardinality()) == -1  # -1: endless


def _kind(dataset):
    return type(dataset).__name__.lstrip("_").removesuffix("Dataset")


def _rows_of_first(dataset):
    shape = keras.tree.flatten(next(iter(dataset.take(1))))[0].shape
    return shape[0] if len(shape) else None
