"""What derivatives of models and trainings take from TensorFlow beside `keras.ops`."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_extras._core.differentiation.moments import twice_differentiable_moments

# The dtype in which numbers are kept that are not computed with in a model.
WIDEST = "float64"

dense = tf.convert_to_tensor
while_loop = tf.while_loop
gather = tf.gather


def compiled(function: Callable, jit_compile: bool = False) -> Callable:
    """Returns a function compiled for tensors; other arguments are constants of what is compiled.

    Args:
        function: From structures of tensors to a structure of tensors.
        jit_compile: Boolean, whether to compile with XLA. Defaults to `False`.
    """
    return tf.function(function, autograph=False, jit_compile=jit_compile)


# A part of a compiled function, which rounds alike wherever it stands: XLA compiles it alone.
block = compiled


def vectorized(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Returns `function(number, arguments)` for many numbers at once, their results stacked.

    It raises where TensorFlow cannot vectorise.

    Args:
        function: From a scalar integer and a structure of tensors to a structure of tensors.
    """

    def of_all(numbers, arguments):
        return tf.vectorized_map(lambda number: function(number, arguments), numbers)

    traced = tf.function(of_all, autograph=False)

    def call(numbers, arguments):
        # Not called itself, because TensorFlow warns of functions that are often compiled.
        with _quiet():
            concrete = traced.get_concrete_function(numbers, arguments)
        return concrete(numbers, arguments)

    return call


def is_traced(tensor: Any) -> bool:
    """Returns whether a tensor belongs to a function that is being compiled."""
    return not tf.executing_eagerly()


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
        twice_differentiable_moments(),
        tf.autodiff.ForwardAccumulator(list(values), list(vector)) as accumulator,
    ):
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(values)
            outputs, penalties, aux = function(values)
        penalty_gradient = _filled(tape.gradient(penalties, values), values)
    zero = tf.UnconnectedGradients.ZERO
    of_penalties = accumulator.jvp(penalty_gradient, unconnected_gradients=zero)
    moves = accumulator.jvp(outputs, unconnected_gradients=zero)
    curved = curve(outputs, moves, aux)
    of_outputs = _filled(tape.gradient(outputs, values, output_gradients=curved), values)
    return [a + b for a, b in zip(of_outputs, of_penalties)]


def _filled(gradients, values):
    zero = tf.zeros_like
    pairs = zip(gradients, values)
    return [zero(v) if g is None else dense(g) for g, v in pairs]


@contextlib.contextmanager
def _quiet():
    """TensorFlow logs pages about what it cannot vectorise."""
    logger = tf.get_logger()
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled
