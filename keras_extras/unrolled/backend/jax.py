"""Functions of JAX for unrolled training that `keras.ops` lacks."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

BLOCKS_ROUND_ALIKE = False

integers_of_64_bits = jax.enable_x64
where = jnp.where


def gather(tensor, index):
    return tensor[index]


def while_loop(condition, body, state):
    return jax.lax.while_loop(
        lambda state: condition(*state), lambda state: tuple(body(*state)), tuple(state)
    )


def compiled(function, jit_compile=False, static=()):
    return jax.jit(function, static_argnames=static)


def unrecorded(tensor):
    return tensor


def tried(function):
    return jax.eval_shape(function)


def block(function, jit_compile):
    """The function itself, for JAX compiles all as a whole."""
    return function


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Array:
    tensors: Any

    def write(self, index, tensor):
        return _Array(self.tensors.at[index].set(tensor))

    def read(self, index):
        return self.tensors[index]

    def stack(self):
        return self.tensors

    def concat(self):
        return self.tensors.reshape((-1, *self.tensors.shape[2:]))


def array(dtype, size, shape, grows=False):
    return _Array(jnp.zeros((size, *shape), dtype))


def add_at(tensor, rows, values):
    return tensor.at[rows].add(values)


def push_if(condition, arrays, count, tensors):
    """Without branches, which copy arrays: what is written at the top without need is lost."""
    arrays = [array.write(count, tensor) for array, tensor in zip(arrays, tensors)]
    return arrays, count + condition, [jnp.where(condition, 0, tensor) for tensor in tensors]


def pop_if(condition, arrays, count, tensors):
    count = count - condition
    top = [array.read(count) for array in arrays]
    return count, [jnp.where(condition, *pair) for pair in zip(top, tensors)]
