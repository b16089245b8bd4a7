"""Functions of JAX for derivatives of models that `keras.ops` lacks."""

import jax


def vectorized(function):
    return jax.vmap(function, in_axes=(0, None))


def compiled_for(function, *arguments):
    compiled = jax.jit(function)
    compiled.eval_shape(*arguments)  # It raises of what cannot be compiled.
    return compiled


def program(function, *arguments):
    """Nothing, because rules of derivatives such as those of `jax.custom_vjp` do not show."""


def has_loops(function, *arguments):
    """Never one that JAX cannot vectorize."""
    return False


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
