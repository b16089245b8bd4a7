"""Initializers of weights."""

from keras_extras.initializers.activation_uniform import ActivationUniform

__all__ = ["ActivationUniform"]
