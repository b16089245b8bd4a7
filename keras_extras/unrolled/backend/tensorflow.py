"""Functions of TensorFlow for unrolled training that `keras.ops` lacks."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

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


def unrecorded(tensor: Any) -> Any:
    """Returns an eager tensor of the same values whose use no tape records."""
    return tf.constant(tensor.numpy())


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
