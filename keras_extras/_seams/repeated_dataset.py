"""The pipelines of `tf.data`: what of them is repeated, how large batches are, what is random.

A `tf.data.Dataset` does not say publicly that it goes through its data several times, and its
cardinality counts all of them. Nor does it say how large its batches are, whether it can be read
twice, or whether it draws random numbers. Read are its private inputs, functions, batch size and
seeds, and the names of its classes. Known to hold since TensorFlow 2.21. Public inputs and options
of the steps of a pipeline would make it unnecessary.
"""

import re
import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_extras._core.user_frames import user_stacklevel


def rows_of_batches(dataset: Any) -> int | None:
    """Returns the number of rows of the first batch where the pipeline says so, else None.

    Nothing is read: another iterator would have the data shuffled differently.
    """
    shape = getattr(keras.tree.flatten(dataset.element_spec)[0], "shape", None)
    if shape is not None and shape.rank and shape[0] is not None:
        return int(shape[0])
    while _kind(dataset) in _SAME_BATCHES:
        (dataset,) = dataset._inputs()
    if _kind(dataset) not in _BATCHES or not hasattr(dataset, "_batch_size"):
        return None
    size, length = int(dataset._batch_size), int(dataset._inputs()[0].cardinality())
    if length == -2:  # unknown
        return None
    return size if length < 0 else min(size, length)


def is_repeatable(dataset: Any) -> bool:
    """Returns whether another iterator leaves what training reads as it is.

    That is not so where the data come from Python, which may have each batch but once.
    """
    functions = [function.function.graph for function in dataset._functions()]
    definitions = [graph.as_graph_def() for graph in functions]
    nodes = [
        node
        for definition in definitions
        for part in (definition.node, *(f.node_def for f in definition.library.function))
        for node in part
    ]
    is_own = _kind(dataset) != "Generator" and not any(_HAS_STATE.match(node.op) for node in nodes)
    return is_own and all(map(is_repeatable, dataset._inputs()))


_HAS_STATE = re.compile("(Eager)?PyFunc|GeneratorDataset|Assign|Queue|Iterator|Stack|Lookup")


def rows_of_one_pass(dataset: Any, rows: Callable[[], int]) -> float | None:
    """Returns the number of rows that a pipeline repeats; None if it repeats nothing.

    A smaller last batch before `repeat` counts as a whole one. If the number is unknown, the
    function warns and returns None.

    Args:
        dataset: A `tf.data.Dataset`.
        rows: Function that returns the number of rows of its first batch.
    """
    try:
        found = _repeated(dataset)
    except _UnknownError as reason:
        warnings.warn(
            f"The dataset is repeated, and its number of rows is unknown because {reason}. Its "
            "rows count as often as they come in an epoch. Give the number of rows in place of "
            "'auto', or leave `repeat` out.",
            stacklevel=user_stacklevel(),
        )
        return None
    if found is None:
        return None
    repeated, batchings = found
    length = int(repeated.cardinality())
    in_each = 1 if batchings == 1 else _rows_of_first(repeated, rows)
    if length == 1 and in_each in (None, 1):
        return None  # Not data, but the start of functions that make data.
    # Elements without an axis are numbers or names from which batches are made.
    return float(length * (in_each or rows()))


def chance_in(dataset: Any) -> str | None:
    """Returns what makes a pipeline another one in each process, as the end of a sentence about it.

    Args:
        dataset: A `tf.data.Dataset`; of other data, also distributed ones, nothing is known.

    Returns:
        String; `None` if nothing is known to.
    """
    if not hasattr(dataset, "_functions"):
        return None
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
# Steps behind which the first batch has as many rows as the batches before.
_SAME_BATCHES = ("Cache", "Prefetch", "Options", "AssertCardinality", "Repeat", "Shuffle", "Take")
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


def _rows_of_first(repeated, rows):
    """The rows of a part's first element, None if it has no axis; `rows` where it is read once."""
    shape = getattr(keras.tree.flatten(repeated.element_spec)[0], "shape", None)
    if shape is not None and shape.rank == 0:
        return None
    known = rows_of_batches(repeated)
    if known is not None:
        return known
    if not is_repeatable(repeated):
        return rows()
    shape = keras.tree.flatten(next(iter(repeated.take(1))))[0].shape
    return shape[0] if len(shape) else None
