"""Which weights of a model are uncertain."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_extras._core.path_patterns import match_patterns


def weight_subset(
    subset: Any, variables: Sequence[keras.Variable], model: keras.Model
) -> list[int]:
    """Returns the positions of the weights that are uncertain.

    Args:
        subset: `"all"`; `"last_layer"`, the last layer that has any that are trained; or a pattern
            of `variable.path`, or several.
        variables: The trainable variables of the model.
        model: The model.

    Raises:
        TypeError: If it is no string and no sequence of strings.
        ValueError: If there are no trainable variables, or a pattern matches none.
    """
    if not variables:
        raise ValueError(
            f"The model {model.name!r} must have trainable weights. Received: none; set "
            "`trainable = True` for those that are to be uncertain"
        )
    if isinstance(subset, str):
        if subset == "all":
            return list(range(len(variables)))
        if subset == "last_layer":
            return _of_last_layer(variables, model)
    patterns = [subset] if isinstance(subset, str) else subset
    is_strings = isinstance(patterns, list | tuple) and all(isinstance(p, str) for p in patterns)
    if not is_strings or not patterns:
        error = ValueError if is_strings else TypeError
        raise error(f"{_EXPECTED}. Received: subset_of_weights={subset!r}")
    try:
        found = match_patterns("subset_of_weights", dict.fromkeys(patterns, True), variables)
    except ValueError as reason:
        raise ValueError(f"{_EXPECTED}. {reason}") from None
    return [number for number, is_chosen in enumerate(found) if is_chosen]


_EXPECTED = (
    "`subset_of_weights` must be one of 'all' and 'last_layer', or a pattern of variable paths, or "
    "a list of patterns"
)


def _of_last_layer(variables, model):
    """The positions of the weights of the last layer that has any that are trained."""
    layers = [layer for layer in model.layers if layer.trainable_variables]
    while isinstance(layers[-1], keras.Model):
        layers = [layer for layer in layers[-1].layers if layer.trainable_variables]
    last = [id(variable) for variable in layers[-1].trainable_variables]
    return [number for number, variable in enumerate(variables) if id(variable) in last]
