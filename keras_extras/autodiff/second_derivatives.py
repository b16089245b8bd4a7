"""Whether a model has second derivatives at all."""

import weakref
from typing import Any

import keras
from keras import ops

from keras_extras._core import differentiation
from keras_extras._core.differentiation import value_and_gradients
from keras_extras.autodiff.blocking_layers import blocking_layers
from keras_extras.autodiff.differentiated_model import DifferentiatedModel

# The checks that each model passed, kept as long as the model.
_passed: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def check_second_derivatives(function: DifferentiatedModel) -> None:
    """Raises if an operation in a model or its loss has no second derivative in the backend.

    TensorFlow takes some of them as zero in silence. Forward mode needs them for first derivatives.
    The same model and loss are looked at once.

    Args:
        function: The model and the data.

    Raises:
        ValueError: With the operations and the layers that hold them.
    """
    loss = function.given_loss if function.has_loss else None
    kinds = tuple(map(_kind, keras.tree.flatten(loss)))
    key = (*function.names, function.training, kinds, *map(id, function.variables))
    passed = _passed.setdefault(function.model, set())
    if key in passed:
        return

    def total(values):
        if function.has_loss:
            return function.loss(values, function.data)
        return sum(ops.sum(output) for output in function.outputs(values, function.data))

    def gradient(values):
        return value_and_gradients(total, values)[1]

    check_model(function.model, gradient, function.values, function.data.x, function.training)
    passed.add(key)


def check_model(model: Any, gradient: Any, values: Any, x: Any, training: bool) -> None:
    """Raises if a gradient has no derivative in the backend, and names the layers.

    Args:
        model: Keras model or layer.
        gradient: Function from a list of tensors to a gradient.
        values: List of tensors.
        x: Inputs of the model.
        training: Boolean, passed to the layers.
    """
    try:
        differentiation.check_second_derivatives(gradient, values)
    except ValueError as error:
        names = blocking_layers(model, x, training, order=2)
        if not names:
            raise
        raise ValueError(f"{error}; layers: {', '.join(map(repr, names))}") from None


def _kind(loss):
    """A key that is equal for losses that compute the same, though made for each call."""
    if isinstance(loss, keras.losses.Loss):
        return type(loss), _kind(getattr(loss, "fn", None))
    return getattr(loss, "__code__", loss if isinstance(loss, str) else type(loss))
