"""Checks of a model before its training is differentiated."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_extras._core.model_function import evaluate
from keras_extras.autodiff.blocking_layers import blocking_layers


def updated_statistics(model: keras.Model, x: Any) -> list[keras.Variable]:
    """Returns the variables that a call in training updates, such as moving averages.

    Args:
        model: Built Keras model.
        x: Some rows of inputs.
    """
    assigned = [v for v, _ in evaluate(model, x, training=True, penalties=False).assigned]
    return [v for v in assigned if not v.trainable and keras.backend.is_float_dtype(v.dtype)]


def check_gradients_exist(
    model: keras.Model, variables: Sequence[keras.Variable], gradients: Sequence[Any], x: Any
) -> None:
    """Raises if a weight has no gradient, and names the layers that stop it.

    Args:
        model: Built Keras model.
        variables: Its trainable variables.
        gradients: List of their gradients, `None` where there is none.
        x: Some rows of inputs.

    Raises:
        ValueError: If a gradient is `None`.
    """
    without = [repr(v.path) for v, g in zip(variables, gradients) if g is None]
    if not without:
        return
    names = blocking_layers(model, x, training=True)
    layers = [f"{name!r} ({type(model.get_layer(name)).__name__})" for name in names]
    raise ValueError(
        "`model` must have a gradient with respect to each trainable weight; a loss that does not "
        "depend on a weight has none, nor is there one through rounding, argmax or casts to "
        "integers. Replace such layers, or set `trainable=False` on what lies before them. "
        f"Received: no gradient for {', '.join(without)}"
        + (f"; not differentiable: {', '.join(layers)}" if layers else "")
    )


def check_data_gradient(name: str, gradient: Any) -> None:
    """Raises if the loss has no gradient with respect to training data that are learned.

    Args:
        name: `"x"` or `"y"`.
        gradient: The gradient, `None` if there is none.

    Raises:
        ValueError: If it is `None`.
    """
    if gradient is None:
        raise ValueError(
            f"The hyperparameter {name!r} must have a gradient; integers, such as the inputs of an "
            "embedding or classes, have none. "
            f"Received: no gradient with respect to {name!r}"
        )
