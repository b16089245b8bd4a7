"""Objects that are tensors to Keras on TensorFlow."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

METACLASS = type
# Slices are those of the tensor, as of the symbolic outputs that models are built with;
# `tensor_distribution[...]` slices the distribution.
OPERATORS = tf.Tensor.OVERLOADABLE_OPERATORS - {"__eq__", "__ne__"}


class TensorLike:
    """An object that stands for the tensor `_tensor`."""

    _tensor: Any

    def __init__(self) -> None:
        tf.Module.__init__(self)

    def is_tensor_like(self) -> bool:
        """Its presence makes `tf.is_tensor` true, and with it Keras hands the object on."""
        return True

    def get_shape(self) -> tf.TensorShape:
        return self._tensor.shape

    def __tf_tracing_type__(self, context: Any) -> tf.TensorSpec:
        """A `tf.function` is called with the tensor, and its gradient flows."""
        return tf.TensorSpec(self._tensor.shape, self._tensor.dtype)

    def numpy(self) -> np.ndarray:
        return self._tensor.numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if not hasattr(self._tensor, "numpy"):
            # As a tensor of a graph, so that a list of several is packed.
            raise NotImplementedError("A tensor of a graph is no NumPy array")
        return np.array(self._tensor.numpy(), dtype=dtype)


def quietly(function: Callable) -> Callable:
    """Returns the function, as TensorFlow has all that TFP asks for."""
    return function


def dtype_named(name: str) -> tf.DType:
    """Returns the dtype of a name as tensors of the backend have it."""
    return tf.as_dtype(name)


def register(cls: type) -> None:
    """Lets TensorFlow convert objects of a class."""
    tf.register_tensor_conversion_function(cls, _convert)


def _convert(value, dtype=None, name=None, as_ref=False):
    return value._tensor if dtype is None else tf.cast(value._tensor, dtype, name=name)
