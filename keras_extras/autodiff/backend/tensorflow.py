"""Functions of TensorFlow for derivatives of models that `keras.ops` lacks."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_extras._core.vectorized_map import vectorized_map
from keras_extras._seams.twice_differentiable import twice_differentiable
from keras_extras.autodiff.dense_derivatives import zeros_where_none
from keras_extras.autodiff.program import Program


def vectorized(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Returns `function(number, arguments)` for many numbers at once, their results stacked.

    Compiled, it raises where TensorFlow cannot vectorize.

    Args:
        function: From a scalar integer and a structure of tensors to a structure of tensors.
    """

    def of_all(numbers, arguments):
        return vectorized_map(lambda number: function(number, arguments), numbers)

    return of_all


def compiled_for(function: Callable, *arguments: Any) -> Callable:
    """Returns a function compiled for tensors like these, which does not keep the function itself.

    Args:
        function: From structures of tensors to a structure of tensors.
        *arguments: The structures.
    """
    # Not called itself, because TensorFlow warns of functions that are often compiled.
    with _quiet():
        return tf.function(function, autograph=False).get_concrete_function(*arguments)


def program(function: Callable, *arguments: Any) -> Program | None:
    """Returns the program of a function, or None if it cannot be traced.

    Args:
        function: From structures of tensors to a structure of tensors.
        *arguments: The structures.
    """
    try:
        return Program(function, *arguments)
    except Exception:  # Of any kind: what runs eagerly only has no graph.
        return None


def has_loops(function: Callable, *arguments: Any) -> bool:
    """Returns whether there are loops in a function, which TensorFlow cannot vectorize under XLA.

    Args:
        function: From structures of tensors to a structure of tensors.
        *arguments: The structures.
    """
    return Program(function, *arguments).has_loops


def gauss_newton_product(
    function: Callable, values: Sequence[Any], vector: Sequence[Any], curve: Callable
) -> list[Any]:
    """Returns `J^T H J v + P v`, with J and P of a function and H of another one, above it.

    Args:
        function: From a list of tensors to the list of outputs, of which J is the Jacobian, a
            scalar, of which P is the Hessian, and a structure of tensors for `curve`.
        values: List of tensors.
        vector: List of tensors of the same shapes, v.
        curve: From outputs, a vector of their shapes, and what the function returned third, to the
            product with H.
    """
    with (
        twice_differentiable(),
        tf.autodiff.ForwardAccumulator(list(values), list(vector)) as accumulator,
    ):
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(values)
            outputs, penalties, aux = function(values)
        penalty_gradient = zeros_where_none(tape.gradient(penalties, values), values)
    zero = tf.UnconnectedGradients.ZERO
    of_penalties = accumulator.jvp(penalty_gradient, unconnected_gradients=zero)
    moves = accumulator.jvp(outputs, unconnected_gradients=zero)
    curved = curve(outputs, moves, aux)
    of_outputs = zeros_where_none(tape.gradient(outputs, values, output_gradients=curved), values)
    return [a + b for a, b in zip(of_outputs, of_penalties)]


@contextlib.contextmanager
def _quiet():
    """TensorFlow logs pages about what it cannot vectorize; other threads log as they did."""
    logger, thread = tf.get_logger(), threading.get_ident()

    def of_others(record):
        return record.thread != thread

    logger.addFilter(of_others)
    try:
        yield
    finally:
        logger.removeFilter(of_others)
