"""Which operations of a traced gradient have no derivative in TensorFlow."""

import re
from typing import Any

import tensorflow as tf

from keras_extras._seams.gradient_registry import has_gradient

# Gradients of what is constant on purpose, and bookkeeping.
_WITHOUT_DERIVATIVE = {"StopGradient", "BroadcastGradientArgs", "TensorArrayGradV3"}


def unsupported_gradients(graph: tf.Graph) -> dict[str, str]:
    """Returns the operations that compute gradients without one of their own, and their places.

    Args:
        graph: The graph of a gradient, whose functions are looked through as well.

    Returns:
        Dict from types of operations, such as `"ResizeBilinearGrad"`, to the scope of the first of
        each, which holds the names of models and layers.
    """
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    found: dict[str, str] = {}
    for node in nodes:
        if node.op not in found and not _has_derivative(node.op):
            scope = re.sub(r"(^|/)gradient_tape/|(^|/)gradients?/", "/", node.name).strip("/")
            found[node.op] = scope.rpartition("/")[0] or scope
    return found


def _has_derivative(operation: Any) -> bool:
    """False if a gradient's gradient is missing, or registered as none."""
    is_gradient = re.search("Grad|Backprop", operation) and operation not in _WITHOUT_DERIVATIVE
    return not is_gradient or has_gradient(operation)


def check_graph(graph: tf.Graph) -> None:
    """Raises if a graph computes gradients by operations without a gradient.

    Args:
        graph: The graph of a gradient.

    Raises:
        ValueError: With the operations and their scopes.
    """
    found = unsupported_gradients(graph)
    if found:
        raise ValueError(
            "Second derivatives, and forward mode, need operations whose gradients TensorFlow can "
            "differentiate; it takes the derivatives of others as zero, or has none. Replace the "
            "layer, such as raw resizing by `keras.ops.image.resize`, or run Keras on JAX. "
            "Received: "
            + ", ".join(f"{operation} in {place!r}" for operation, place in found.items())
        )
