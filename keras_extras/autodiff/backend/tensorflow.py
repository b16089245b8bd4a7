"""What derivatives of models and trainings take from TensorFlow beside `keras.ops`."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_extras._core.vectorized_map import vectorized_map
from keras_extras._seams.twice_differentiable import twice_differentiable
from keras_extras.autodiff.program import Program

# A gradient as a tensor, where an embedding's is not one.
dense = tf.convert_to_tensor
gather = tf.gather
where = tf.where
while_loop = tf.while_loop
# Integers of 64 bits are there at any time.
integers_of_64_bits = contextlib.nullcontext
# Whether what `block` returns rounds alike in each place of a compiled function.
BLOCKS_ROUND_ALIKE = True


def compiled(function: Callable, jit_compile: bool = False, static: Sequence[str] = ()) -> Callable:
    """Returns a function compiled for tensors.

    Args:
        function: From structures of tensors to a structure of tensors.
        jit_compile: Boolean, whether to compile with XLA. Defaults to `False`.
        static: Names of arguments that are no tensors, but constants of what is compiled. Defaults
            to `()`.
    """
    return tf.function(function, autograph=False, jit_compile=jit_compile)


def tried(function: Callable) -> Any:
    """Returns what a function without arguments returns, of which only the form is looked at."""
    return function()


def block(function: Callable, jit_compile: bool) -> Callable:
    """Returns a part of a compiled function.

    Args:
        function: From structures of tensors, numbers among them, to a structure of tensors.
        jit_compile: Boolean, whether to compile with XLA, which is then done with this part alone.
    """
    return tf.function(function, autograph=False, jit_compile=jit_compile)


def array(dtype: str, size: int, shape: Sequence[int], grows: bool = False) -> Any:
    """Returns a `tf.TensorArray`, or what has its methods.

    Args:
        dtype: The dtype of its tensors.
        size: Integer, how many tensors it has room for.
        shape: Their shape.
        grows: Boolean, whether it may have more where the backend can. Defaults to `False`.
    """
    size = 0 if grows else size
    return tf.TensorArray(
        dtype, size, dynamic_size=grows, element_shape=shape, clear_after_read=False
    )


def add_at(tensor: Any, rows: Any, values: Any) -> Any:
    """Returns a tensor with values added to some of its rows."""
    return tf.tensor_scatter_nd_add(tensor, rows[:, None], values)


def push_if(condition: Any, arrays: list, count: Any, tensors: list) -> tuple[list, Any, list]:
    """Sets tensors aside if a condition holds, on stacks of equal height.

    Args:
        condition: Boolean tensor.
        arrays: List of arrays, one for each tensor.
        count: Integer tensor, the height of the stacks.
        tensors: List of tensors.

    Returns:
        The arrays, the count, and in the place of tensors that were set aside zeros.
    """
    return tf.cond(
        condition,
        lambda: (
            [array.write(count, tensor) for array, tensor in zip(arrays, tensors)],
            count + 1,
            [tf.zeros_like(tensor) for tensor in tensors],
        ),
        lambda: (arrays, count, tensors),
    )


def pop_if(condition: Any, arrays: list, count: Any, tensors: list) -> tuple[Any, list]:
    """Undoes `push_if`: returns the count, and the tensors as they were."""
    return tf.cond(
        condition,
        lambda: (count - 1, [array.read(count - 1) for array in arrays]),
        lambda: (count, tensors),
    )


def vectorized(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Returns `function(number, arguments)` for many numbers at once, their results stacked.

    Compiled, it raises where TensorFlow cannot vectorise.

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
        twice_differentiable(),
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
    """TensorFlow logs pages about what it cannot vectorise; other threads log as they did."""
    logger, thread = tf.get_logger(), threading.get_ident()

    def of_others(record):
        return record.thread != thread

    logger.addFilter(of_others)
    try:
        yield
    finally:
        logger.removeFilter(of_others)
