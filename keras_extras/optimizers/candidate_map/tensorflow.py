"""Mapping a loss over candidates on TensorFlow."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

HOST_FUNCTION = "tf.numpy_function"

# In place of a batch size that is not known when the step is compiled.
_ROWS = 256
# Operations whose outputs have a shape that depends on values, and which inputs hold these.
# TensorFlow maps them too, and fails in the step where two candidates differ in shape.
_SHAPED_BY = {
    "Where": (0,),
    "Unique": (0,),
    "UniqueV2": (0,),
    "UniqueWithCounts": (0,),
    "UniqueWithCountsV2": (0,),
    "DynamicPartition": (1,),
    "ListDiff": (0, 1),
    "Range": (0, 1, 2),
    "Fill": (0,),
    "Reshape": (1,),
    "Tile": (1,),
    "BroadcastTo": (1,),
    "Pad": (1,),
    "PadV2": (1,),
    "Slice": (2,),
    "StridedSlice": (1, 2, 3),
    "SplitV": (1,),
    "TopKV2": (1,),
    "OneHot": (1,),
    "Bincount": (1,),
    "DenseBincount": (1,),
    "SparseBincount": (2,),
    "RaggedRange": (0, 1, 2),
    "SegmentSum": (1,),
    "SegmentSumV2": (2,),
    "SegmentMean": (1,),
    "SegmentProd": (1,),
    "SegmentProdV2": (2,),
    "SegmentMin": (1,),
    "SegmentMinV2": (2,),
    "SegmentMax": (1,),
    "SegmentMaxV2": (2,),
    "UnsortedSegmentSum": (2,),
    "UnsortedSegmentProd": (2,),
    "UnsortedSegmentMin": (2,),
    "UnsortedSegmentMax": (2,),
    "DenseToDenseSetOperation": (0, 1),
    "DenseToSparseSetOperation": (0, 1, 2),
    "SparseToSparseSetOperation": (0, 1, 3, 4),
    "NonMaxSuppressionV3": (0, 1),
    "NonMaxSuppressionV4": (0, 1),
    "NonMaxSuppressionV5": (0, 1),
    # Vectorized, each call would be made for all candidates before the next one.
    "PyFunc": None,
    "PyFuncStateless": None,
    "EagerPyFunc": None,
}
# Operations that depend on the shape of their inputs alone.
_OF_SHAPES = {"Shape", "ShapeN", "Size", "Rank"}


def one_by_one(function: Callable[[Any], Any], candidates: Any) -> Any:
    """Returns the stacked results of a function of one candidate, called in order."""
    if not tf.executing_eagerly():
        return tf.map_fn(
            function, candidates, fn_output_signature=tf.float32, parallel_iterations=1
        )
    population = keras.tree.flatten(candidates)[0].shape[0]
    return tf.stack(
        [
            function(keras.tree.map_structure(lambda c, i=i: c[i], candidates))
            for i in range(population)
        ]
    )


def lacks_values(error: Exception) -> bool:
    """Returns whether an error says that a symbolic tensor has no values."""
    return "symbolic" in str(error).lower()


def examine(loss_at: Callable[[Any], Any], candidate: Any) -> tuple[int, str | None]:
    """Returns how many numbers a loss is computed by, and why it cannot be vectorized, or `None`.

    Args:
        loss_at: Function from a candidate to a scalar loss.
        candidate: Structure of `keras.KerasTensor`s.
    """
    spec = keras.tree.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), candidate)
    concrete = tf.function(loss_at, autograph=False).get_concrete_function(spec)
    graph = concrete.graph
    outputs = [tensor.shape for operation in graph.get_operations() for tensor in operation.outputs]
    values = sum(
        math.prod(_ROWS if length is None else length for length in shape)
        for shape in outputs
        if shape.rank is not None
    )
    count = len(concrete.inputs) - len(concrete.captured_inputs)
    arguments = {tensor.op.name for tensor in concrete.inputs[:count]}
    definition = graph.as_graph_def()
    functions = {function.signature.name: function for function in definition.library.function}
    found = _obstacle(definition.node, arguments, functions)[0]
    return values, None if found is None else f"it holds the operation {found!r}"


def _obstacle(
    nodes: Iterable[Any], varied: set[str], functions: dict[str, Any]
) -> tuple[str | None, set[str]]:
    """Returns the first operation that keeps a graph from being vectorized, and what varies.

    Args:
        nodes: The definitions of its operations.
        varied: The names of those whose values differ from candidate to candidate.
        functions: Dict from names to definitions of functions.
    """
    varied, changed = set(varied), True
    nodes = list(nodes)
    while changed:  # The nodes of functions are in no order.
        changed = False
        for node in nodes:
            if node.name in varied or node.op in _OF_SHAPES:
                continue
            names = [name.split(":")[0] for name in node.input if not name.startswith("^")]
            if any(name in varied for name in names):
                varied.add(node.name)
                changed = True
    for node in nodes:
        if node.name not in varied:
            continue
        names = [name.split(":")[0] for name in node.input if not name.startswith("^")]
        is_index = node.op == "StridedSlice" and node.attr["shrink_axis_mask"].i
        if node.op in _SHAPED_BY and not is_index:
            places = _SHAPED_BY[node.op]
            if places is None or any(i < len(names) and names[i] in varied for i in places):
                return node.op, varied
        found = _obstacle_in_call(node, [name in varied for name in names], functions)
        if found is not None:
            return found, varied
    return None, varied


def _obstacle_in_call(node, is_varied, functions):
    """The same of the functions that an operation calls: branches, loops and calls."""
    names = [v.func.name for v in node.attr.values() if v.func.name in functions]
    names += [f.name for v in node.attr.values() for f in v.list.func if f.name in functions]
    for name in names:
        function = functions[name]
        arguments = [argument.name for argument in function.signature.input_arg]
        # Branches have all inputs but the condition.
        given = is_varied[len(is_varied) - len(arguments) :]
        varied = {argument for argument, is_one in zip(arguments, given) if is_one}
        while True:
            found, inside = _obstacle(function.node_def, varied, functions)
            if found is not None:
                return found
            # Loops get what they return.
            returned = [out.name for out in function.signature.output_arg]
            again = {
                argument
                for argument, name in zip(arguments, returned)
                if function.ret[name].split(":")[0] in inside | varied
            }
            if node.op not in ("While", "StatelessWhile") or again <= varied:
                break
            varied |= again
    return None
