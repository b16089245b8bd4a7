"""Inputs that a kernel can be multiplied with."""

from typing import Any

import keras
from keras import ops


def as_floats(layer: keras.layers.Layer, inputs: Any) -> Any:
    """Returns inputs of a floating dtype as they are, integers and booleans in the layer's."""
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    if keras.backend.is_float_dtype(dtype):
        return inputs
    if dtype == "string":
        raise TypeError(
            f"Layer {layer.name!r} needs inputs of numbers. Received: inputs of dtype string"
        )
    return ops.cast(inputs, layer.compute_dtype)
