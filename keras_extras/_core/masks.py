"""Keras' masks where derivatives are taken on JAX: what is differentiated is another tensor.

Keras hangs a mask onto a tensor, and hands it to layers only.
"""

from typing import Any

import keras
from keras import ops


def mask_of(tensor: Any) -> Any:
    """Returns the mask that a tensor bears, or `None`."""
    layer = _Mask()
    layer(tensor)
    return layer.found


def with_mask(tensor: Any, mask: Any) -> Any:
    """Returns a tensor that bears a mask; without one the tensor as it is."""
    return tensor if mask is None else _Mask(mask)(tensor)


class _Mask(keras.layers.Layer):
    """The identity, which sees the mask of what it is called on, and gives its own."""

    def __init__(self, given=None):
        super().__init__(autocast=False, name="mask")
        self.supports_masking = True
        self.given, self.found = given, None

    def call(self, inputs):
        return ops.copy(inputs)

    def compute_mask(self, inputs, previous_mask):
        self.found = previous_mask
        return self.given
