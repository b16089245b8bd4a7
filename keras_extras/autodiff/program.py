"""Program: what a function computes on TensorFlow, to be compared with what another one does."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

# The name that a call of a function has for its gradient, which says nothing of what it is.
_CALL = re.compile(r"^(Stateful)?PartitionedCall-\d+$")


class Program:
    """The graph of a function, equal to that of another one if both compute the same.

    Weights, layers, losses and their settings all show in it, wherever they come from.

    Args:
        function: From structures of tensors to a structure of tensors.
        arguments: The structures of tensors.

    Attributes:
        has_loops: Whether there are loops in it.
    """

    def __init__(self, function: Callable, *arguments: Any):
        traced = tf.function(function, autograph=False)
        graph = traced.get_concrete_function(*arguments).graph
        definition = graph.as_graph_def()
        library = {f.signature.name: f for f in definition.library.function}
        called: list[str] = []  # It grows as calls are met.
        outputs = [output.name for output in graph.outputs]
        inner = [placeholder.name for _, placeholder in graph.captures]
        self._parts = [_canonical(definition.node, [], [*outputs, *inner], library, called)]
        for name in called:
            part = library[name]
            arguments_of = [argument.name for argument in part.signature.input_arg]
            ends = [part.ret[output.name] for output in part.signature.output_arg]
            self._parts.append(_canonical(part.node_def, arguments_of, ends, library, called))
        nodes = [*definition.node, *(node for f in library.values() for node in f.node_def)]
        self.has_loops = any(node.op in ("While", "StatelessWhile") for node in nodes)
        self._captured = [outer for outer, _ in graph.captures]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Program)
            and self._parts == other._parts
            and len(self._captured) == len(other._captured)
            and all(map(_is_same, self._captured, other._captured))
        )


def _canonical(nodes, arguments, ends, library, called):
    """Operations with attributes and inputs, and where the ends are, without names of their own."""
    places = {name: f"argument {n}" for n, name in enumerate(arguments)}
    places |= {node.name: str(n) for n, node in enumerate(nodes)}

    def place(name):
        name, *output = name.lstrip("^").split(":")
        return (places[name], *output)

    def number(name):
        if name in library and name not in called:
            called.append(name)
        return called.index(name) if name in library else name

    def value(attribute):
        if attribute.WhichOneof("value") == "func":
            return number(attribute.func.name)
        if _CALL.match(attribute.s.decode(errors="replace")):
            return "call"
        return attribute.SerializeToString(deterministic=True)

    operations = [
        (
            number(node.op),
            [place(name) for name in node.input],
            [(key, value(node.attr[key])) for key in sorted(node.attr)],
        )
        for node in nodes
    ]
    return operations, list(map(place, ends))


def _is_same(one, other):
    """Whether captured tensors are the same; of variables, whether they are."""
    if one is other:
        return True
    if tf.resource in (one.dtype, other.dtype) or tf.variant in (one.dtype, other.dtype):
        return False
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.is_floating)
