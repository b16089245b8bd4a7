"""The values that a `keras.StatelessScope` holds.

Read and written are `original_scope` and `state_mapping` of the scope, which have no underscore and
no documentation. A scope does not know the values of the one around it, and has no way to list
those that it holds, which branches and loops have to carry. Known to hold since Keras 3.12. Scopes
that inherit, and a public list of what one holds, would make it unnecessary.
"""

from typing import Any

import keras


def current_scope() -> keras.StatelessScope | None:
    """Returns the scope that is open, else `None`."""
    with keras.StatelessScope(initialize_variables=False) as scope:
        return scope.original_scope


def inherit_values(scope: keras.StatelessScope) -> None:
    """Gives a scope the values of the one around it, for variables of which it has none."""
    if scope.original_scope is not None:
        scope.state_mapping = {**scope.original_scope.state_mapping, **scope.state_mapping}


def values_in(scope: keras.StatelessScope) -> dict[Any, Any]:
    """Returns the values that a scope holds, by what stands for their variables, to be changed."""
    return scope.state_mapping
