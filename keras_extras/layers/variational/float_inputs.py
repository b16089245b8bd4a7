"""Inputs that a kernel can be multiplied with."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_inputs


def as_floats(layer: keras.layers.Layer, inputs: Any) -> Any:
    """Returns inputs of a floating dtype as they are, integers and booleans in the layer's."""
    check_inputs(layer.name, inputs)
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(inputs.dtype)):
        return inputs
    return ops.cast(inputs, layer.compute_dtype)
