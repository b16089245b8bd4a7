"""What derivatives of models and trainings take from JAX beside `keras.ops`."""

import jax

WIDEST = "float32"


def dense(gradient):
    return gradient


def vectorized(function):
    return jax.jit(jax.vmap(function, in_axes=(0, None)))


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
