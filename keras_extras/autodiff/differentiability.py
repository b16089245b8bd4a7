"""What must be known of a model before its training is differentiated."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def updated_statistics(model: keras.Model, x: Any) -> list[keras.Variable]:
    """Returns the variables that a call in training updates, such as moving averages.

    Args:
        model: Built Keras model.
        x: Some rows of inputs.
    """
    with keras.StatelessScope() as scope:
        model(x, training=True)
    return [
        variable
        for variable in model.non_trainable_variables
        if keras.backend.is_float_dtype(variable.dtype)
        and scope.get_current_value(variable) is not None
    ]


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
    layers = _layers_without_gradient(model, x)
    raise ValueError(
        "`model` must have a gradient with respect to each trainable weight; a loss that does not "
        "depend on a weight has none, nor is there one through rounding, argmax or casts to "
        "integers. Replace such layers, or set `trainable=False` on what lies before them. "
        f"Received: no gradient for {', '.join(without)}"
        + (f"; not differentiable: {', '.join(layers)}" if layers else "")
    )


def _layers_without_gradient(model, x):
    """Names of the layers whose output has no gradient with respect to their input."""
    found = []

    def recording(layer, call):
        def wrapped(inputs, *args, **kwargs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = call(inputs, *args, **kwargs)
            if tape.gradient(outputs, inputs) is None:
                found.append(f"{layer.name!r} ({type(layer).__name__})")
            return outputs

        return wrapped

    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    calls = [layer.call for layer in layers]
    try:
        for layer, call in zip(layers, calls):
            layer.call = recording(layer, call)
        with keras.StatelessScope():
            model(x, training=True)
    finally:
        for layer, call in zip(layers, calls):
            layer.call = call
    return found
