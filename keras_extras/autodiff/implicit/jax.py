"""Differentiable roots on JAX, by `jax.lax.custom_root`."""

import jax
import jax.numpy as jnp


def constant_function(function, *arguments):
    # Solvers loop until they are done, through which JAX has no derivatives by reverse mode.
    converted, values = jax.closure_convert(function, *arguments)
    values = jax.lax.stop_gradient(values)
    return lambda *arguments: converted(*arguments, *values)


def differentiable_root(residual, root, solve):
    def solve_linear(product, vector):
        def transposed(vector):
            return jax.linear_transpose(product, vector)(vector)[0]

        return solve(product, transposed, vector)

    def tangent_solve(product, vector):
        return jax.lax.custom_linear_solve(
            product, vector, solve=solve_linear, transpose_solve=solve_linear
        )

    root = jax.lax.stop_gradient(root)
    return jax.lax.custom_root(residual, root, lambda _, guess: guess, tangent_solve)


def require(valid, result, message, received):
    if isinstance(valid, jax.core.Tracer):
        return jnp.where(valid, result, jnp.nan)
    if not valid:
        listed = ", ".join(f"{name}={float(value):.3g}" for name, value in received.items())
        raise ValueError(f"{message} Received: {listed}")
    return result
