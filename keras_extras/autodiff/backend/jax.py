"""What derivatives of models and trainings take from JAX beside `keras.ops`."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

BLOCKS_ROUND_ALIKE = False

integers_of_64_bits = jax.enable_x64
where = jnp.where


def dense(gradient):
    return gradient


def gather(tensor, index):
    return tensor[index]


def while_loop(condition, body, state):
    return jax.lax.while_loop(
        lambda state: condition(*state), lambda state: tuple(body(*state)), tuple(state)
    )


def compiled(function, jit_compile=False, static=()):
    return jax.jit(function, static_argnames=static)


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


def vectorized(function):
    return jax.vmap(function, in_axes=(0, None))


def compiled_for(function, *arguments):
    compiled = jax.jit(function)
    compiled.eval_shape(*arguments)  # It raises of what cannot be compiled.
    return compiled


def program(function, *arguments):
    """Nothing, because rules of derivatives such as those of `jax.custom_vjp` do not show."""


def is_traced(tensor):
    return isinstance(tensor, jax.core.Tracer)


def gauss_newton_product(function, values, vector, curve):
    def outputs_of(values):
        outputs, _, aux = function(values)
        return outputs, aux

    outputs, push_forward, aux = jax.linearize(outputs_of, values, has_aux=True)
    curved = curve(outputs, push_forward(vector), aux)
    (of_outputs,) = jax.linear_transpose(push_forward, values)(curved)
    of_penalty = jax.grad(lambda values: function(values)[1])
    _, of_penalties = jax.jvp(of_penalty, (values,), (vector,))
    return [a + b for a, b in zip(of_outputs, of_penalties)]
