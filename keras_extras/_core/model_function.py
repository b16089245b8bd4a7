"""evaluate: a Keras model and its loss as a pure function of weights, state and inputs."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_extras._core.stateless import substituted


class Evaluation(NamedTuple):
    """Result of `evaluate`.

    Attributes:
        outputs: Structure of tensors and distributions, as they leave the model.
        loss: The value of the loss; `None` without one.
        penalties: List of the tensors that regularizers and layers add to the loss.
        added: List of those among them that layers add by `add_loss`, whether or not penalties were
            collected.
        assigned: List of the variables that the call assigned, each with its value after the call.
    """

    outputs: Any
    loss: Any
    penalties: list[Any]
    added: list[Any]
    assigned: list[tuple[keras.Variable, Any]]


def evaluate(
    model: keras.Model,
    x: Any,
    training: bool | None = False,
    weights: Sequence[Any] | None = None,
    state: Iterable[tuple[keras.Variable, Any]] = (),
    loss: Callable[[Any], Any] | None = None,
    penalties: bool = True,
    call: Callable[..., Any] | None = None,
    untracked: Sequence[keras.Variable] = (),
) -> Evaluation:
    """Calls a model with other values in the place of its variables, which keep their own.

    Args:
        model: Built Keras model or layer.
        x: Inputs.
        training: Boolean, whether layers behave as in training; `None` for the mode of the call
            around this one. Defaults to `False`.
        weights: Tensors aligned with `model.trainable_variables`; `None` for those it has. Defaults
            to `None`.
        state: Pairs of a variable and its value, such as moving statistics and the states of seed
            generators; others keep the values that they have. Defaults to `()`.
        loss: Function of the outputs; `None` for none. Defaults to `None`.
        penalties: Boolean, whether to collect penalties. Defaults to `True`.
        call: Function `(x, training=...)` to call in the place of the model. Defaults to `None`.
        untracked: Variables that the call may assign, but the model does not list. Defaults to
            `()`.
    """
    if weights is None and (penalties or loss is not None):
        # Keras finds the regularized weights of a scope only where they are given.
        weights = list(map(ops.copy, model.trainable_variables))
    pairs = [*zip(model.trainable_variables, weights or ()), *state]
    mode = {} if training is None else {"training": training}
    variables = [*model.variables, *untracked]
    with substituted(pairs) as scope:
        before = list(map(scope.get_current_value, variables))
        outputs = (call or model)(x, **mode)
        value = None if loss is None else loss(outputs)
        found = list(model.losses) if penalties else []
    after = map(scope.get_current_value, variables)
    assigned = [(v, new) for v, old, new in zip(variables, before, after) if new is not old]
    return Evaluation(outputs, value, found, scope.losses, assigned)


def is_seed(variable: keras.Variable) -> bool:
    """Returns whether a variable is the state of a seed generator."""
    return variable.name == "seed_generator_state"
