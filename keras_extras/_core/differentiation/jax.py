"""Derivatives on JAX, by its linear maps."""

import jax
import jax.numpy as jnp


def dense(gradients):
    return list(gradients)


def value_and_gradients(function, values, has_aux):
    result, move, depends = _linearized(function, list(values), has_aux)
    if not any(depends):
        return result, [None] * len(depends)
    value = result[0] if has_aux else result
    (gradients,) = jax.linear_transpose(move, list(values))(jnp.ones_like(value))
    return result, [g if is_found else None for g, is_found in zip(gradients, depends)]


def jacobian_vector_product(function, values, vector):
    return jax.jvp(function, (list(values),), (list(vector),))


def vector_jacobian_products(function, value, vectors_of):
    result, move, (depends,) = _linearized(function, value, has_aux=True)
    vectors = vectors_of(result[0])
    if not depends:
        return result, [None] * len(vectors)
    pull_back = jax.linear_transpose(move, value)
    return result, [pull_back(vector)[0] for vector in vectors]


def jacobian_vector_products(function, value, vectors):
    result, move, (depends,) = _linearized(function, value, has_aux=True)
    return result, [move(vector) if depends else None for vector in vectors]


def check_second_derivatives(gradient, values):
    """Nothing to check, because JAX raises where it has none."""


def _linearized(function, value, has_aux):
    """The result, its linear map from moves of the value, and on which tensors the map depends."""
    result, move, *aux = jax.linearize(function, value, has_aux=has_aux)
    program = jax.make_jaxpr(move)(value).jaxpr
    # Literals among the variables are numbers, which cannot be hashed.
    needed = {id(variable) for variable in program.outvars}
    for equation in reversed(program.eqns):
        if any(id(variable) in needed for variable in equation.outvars):
            needed.update(id(variable) for variable in equation.invars)
    result = (result, *aux) if has_aux else result
    return result, move, [id(variable) in needed for variable in program.invars]
