"""Scopes in which variables have other values, and control flow within them.

Keras trains on JAX in a `keras.StatelessScope`, where values of variables are passed on and never
assigned. Such scopes do not know of each other, and a branch or the body of a loop that assigns a
variable would leave a value there that belongs to the branch alone. What is here carries the
values along; outside of a scope it is what Keras has. No file but this and its seam opens
such a scope.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._seams.stateless_scopes import current_scope, inherit_values, values_in


@contextlib.contextmanager
def substituted(
    pairs: Iterable[tuple[keras.Variable, Any]] = (),
) -> Iterator[keras.StatelessScope]:
    """A `keras.StatelessScope` that begins with the values of the scope around it.

    Variables keep the values that they have before it, and what it assigns is forgotten.

    Args:
        pairs: Variables and the values that they are to have.
    """
    with keras.StatelessScope(list(pairs), collect_losses=True) as scope:
        inherit_values(scope)
        yield scope


def own_values() -> contextlib.AbstractContextManager:
    """Within it variables have the values that they hold themselves, whatever scope is around."""
    return keras.StatelessScope()


def is_stateless() -> bool:
    """Returns whether a scope is open."""
    return current_scope() is not None


def assign_eagerly(function: Callable[[], None], variables: Iterable[keras.Variable]) -> None:
    """Calls a function that assigns variables, in branches and loops too.

    Args:
        function: Function without arguments.
        variables: What it may assign; what else it assigns is forgotten on JAX.
    """
    if keras.backend.backend() != "jax" or is_stateless():
        function()
        return
    import jax

    variables = list(variables)
    # Compiled, each branch and loop would be compiled again in each call.
    with jax.disable_jit(), substituted((v, v.value) for v in variables) as scope:
        function()
    for variable in variables:
        variable.assign(scope.get_current_value(variable))


def choose(predicate: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """`keras.ops.cond`, but errors in a branch are as they were raised, not as of a layer."""
    raised = []

    def noting_errors(branch):
        def noted():
            try:
                return branch()
            except Exception as error:
                raised.append(error)
                raise

        return noted

    try:
        return ops.cond(predicate, noting_errors(true_fn), noting_errors(false_fn))
    except Exception:
        if raised:
            raise raised[0] from None
        raise


def cond(predicate: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """`choose`, whose branches may assign variables."""
    scope = current_scope()
    if scope is None:
        return choose(predicate, true_fn, false_fn)
    names = list(values_in(scope))

    def carrying(branch):
        def with_values():
            with substituted() as inner:
                result = branch()
            return result, [values_in(inner)[name] for name in names]

        return with_values

    result, values = choose(predicate, carrying(true_fn), carrying(false_fn))
    values_in(scope).update(zip(names, values))
    return result


def while_loop(
    goes_on: Callable[..., Any], step: Callable[..., Any], loop_vars: Sequence[Any]
) -> Any:
    """`keras.ops.while_loop`, whose steps may assign variables."""
    scope = current_scope()
    if scope is None:
        return ops.while_loop(goes_on, step, loop_vars)
    names = list(values_in(scope))

    def step_with_values(values, *loop_vars):
        with substituted() as inner:
            values_in(inner).update(zip(names, values))
            loop_vars = step(*loop_vars)
        return [values_in(inner)[name] for name in names], *loop_vars

    values, *loop_vars = ops.while_loop(
        lambda values, *loop_vars: goes_on(*loop_vars),
        step_with_values,
        (list(values_in(scope).values()), *loop_vars),
    )
    values_in(scope).update(zip(names, values))
    return loop_vars
