"""Mapping a loss over candidates on JAX."""

from collections.abc import Callable
from typing import Any

import jax
import keras

HOST_FUNCTION = "jax.pure_callback"


def one_by_one(function: Callable[[Any], Any], candidates: Any) -> Any:
    """Returns the stacked results of a function of one candidate, called in order."""
    return jax.lax.map(function, candidates)


def lacks_values(error: Exception) -> bool:
    """Returns whether an error says that a traced array has no values."""
    return isinstance(error, (jax.errors.JAXTypeError, jax.errors.JAXIndexError))


def examine(loss_at: Callable[[Any], Any], candidate: Any) -> tuple[int, str | None]:
    """Returns how many numbers a loss is computed by, and why it cannot be vectorized, or `None`.

    Args:
        loss_at: Function from a candidate to a scalar loss.
        candidate: Structure of `keras.KerasTensor`s.
    """
    spec = keras.tree.map_structure(lambda t: jax.ShapeDtypeStruct(t.shape, t.dtype), candidate)
    program = jax.make_jaxpr(loss_at)(spec)
    values = sum(out.aval.size for equation in program.eqns for out in equation.outvars)
    # Vectorized, each call would be made for all candidates before the next one.
    return values, "it has side effects" if program.effects else None
