"""Gradients at many draws of a layer's weights, compiled on the backend that the tests run on."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def gradient_draws(layer: keras.layers.Layer, inputs: Any, loss: Callable, draws: int) -> Any:
    """Returns gradients of `loss(layer(inputs))`, of shape `(draws, weights)`."""
    make = _on_jax if keras.backend.backend() == "jax" else _on_tensorflow
    gradient = make(layer, inputs, loss)
    return np.array([np.concatenate([np.ravel(g) for g in gradient()]) for _ in range(draws)])


def _on_tensorflow(layer, inputs, loss):
    import tensorflow as tf

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            value = loss(layer(inputs))
        return tape.gradient(value, [v.value for v in layer.trainable_variables])

    return gradient


def _on_jax(layer, inputs, loss):
    import jax

    def value(trainable, state):
        outputs, state = layer.stateless_call(trainable, state, inputs)
        return loss(outputs), state

    compiled = jax.jit(jax.grad(value, has_aux=True))
    weights = [variable.value for variable in layer.trainable_variables]

    def gradient():
        state = [variable.value for variable in layer.non_trainable_variables]
        gradients, state = compiled(weights, state)
        for variable, after in zip(layer.non_trainable_variables, state, strict=True):
            variable.assign(after)
        return gradients

    return gradient
