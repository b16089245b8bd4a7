"""The state that Keras' trainer on JAX hands to a step: the values of all variables.

Read is its order, four lists, which Keras documents for overridden steps as
`(trainable, non_trainable, optimizer, metrics)` variables but gives no names, and `jax_state_sync`
of the model, which is public and not documented. Known to hold since Keras 3.12. A state with names
would make it unnecessary.
"""

import contextlib
from typing import Any

import keras

from keras_extras._core.stateless import substituted


def variables_of_state(model: keras.Model) -> list[Any]:
    """Returns the lists of variables whose values the state is."""
    return [
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    ]


def pairs_of_state(model: keras.Model, state: Any) -> list[tuple[keras.Variable, Any]]:
    """Returns all variables with their values in a state."""
    lists = zip(variables_of_state(model), state)
    return [pair for part in lists for pair in zip(*part, strict=True)]


def optimizer_state(model: keras.Model, state: Any) -> contextlib.AbstractContextManager:
    """Within it, the variables of the optimizer have their values in a state."""
    return substituted(zip(model.optimizer.variables, state[2]))


def assign_state(model: keras.Model, state: Any) -> None:
    """Gives the variables their values in a state, except those that a step has consumed."""
    for variables, values in zip(variables_of_state(model), state):
        for variable, value in zip(variables, values):
            if not value.is_deleted():
                variable.assign(value)
