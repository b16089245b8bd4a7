"""evaluate: a Keras model and its loss as a pure function of weights, state and inputs."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops


class Evaluation(NamedTuple):
    """Result of `evaluate`.

    Attributes:
        outputs: Structure of tensors and distributions, as they leave the model.
        loss: The value of the loss; `None` without one.
        penalties: List of the tensors that regularizers and layers add to the loss.
        state: List aligned with `model.non_trainable_variables` of their values after the call;
            `None` for those that were neither given nor assigned.
    """

    outputs: Any
    loss: Any
    penalties: list[Any]
    state: list[Any]


def evaluate(
    model: keras.Model,
    x: Any,
    training: bool = False,
    weights: Sequence[Any] | None = None,
    state: Iterable[tuple[keras.Variable, Any]] = (),
    loss: Callable[[Any], Any] | None = None,
    penalties: bool = True,
    call: Callable[..., Any] | None = None,
) -> Evaluation:
    """Calls a model with other values in the place of its variables, which keep their own.

    Args:
        model: Built Keras model or layer.
        x: Inputs.
        training: Boolean, whether layers behave as in training. Defaults to `False`.
        weights: Tensors aligned with `model.trainable_variables`; `None` for those it has. Defaults
            to `None`.
        state: Pairs of a variable and its value, such as moving statistics and the states of seed
            generators; others keep the values that they have. Defaults to `()`.
        loss: Function of the outputs; `None` for none. Defaults to `None`.
        penalties: Boolean, whether to collect penalties. Defaults to `True`.
        call: Function `(x, training=...)` to call in the place of the model. Defaults to `None`.
    """
    collect_losses = penalties or loss is not None
    if weights is None and collect_losses:
        # Keras finds the regularized weights of a scope only where they are given.
        weights = list(map(ops.copy, model.trainable_variables))
    pairs = [*zip(model.trainable_variables, weights or ()), *state]
    with keras.StatelessScope(pairs, collect_losses=collect_losses) as scope:
        outputs = (call or model)(x, training=training)
        value = None if loss is None else loss(outputs)
        added = list(model.losses) if penalties else []
    after = [scope.get_current_value(variable) for variable in model.non_trainable_variables]
    return Evaluation(outputs, value, added, after)


def is_seed(variable: keras.Variable) -> bool:
    """Returns whether a variable is the state of a seed generator."""
    return variable.name == "seed_generator_state"
