"""What weights start from."""

from keras_extras.initializers.activation_uniform import ActivationUniform

__all__ = ["ActivationUniform"]
