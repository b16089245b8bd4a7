"""Tensors for Keras' own layers, in place of objects that stand for tensors.

Wrapped is the public `__call__` of `keras.layers.Layer`. Layers of Keras call functions of
`jax.lax`, such as convolutions, which take arrays and no object with `__jax_array__`. Models hand
their inputs on, and functions in `Lambda` and layers of others may want the object. Known to hold
since Keras 3.12. A protocol of arrays that `jax.lax` knows would make it unnecessary.
"""

from collections.abc import Callable
from typing import Any

import keras

from keras_extras._seams.wrapped_methods import wrap_once


def give_layers_tensors(cls: type, tensor_of: Callable[[Any], Any]) -> None:
    """Lets Keras' own layers get the tensors of objects of a class.

    Args:
        cls: The class, and none derived from it.
        tensor_of: Function from an object to its tensor.
    """

    def wrapper(stock):
        def __call__(self, *args, **kwargs):
            if _is_of_keras(self):
                args, kwargs = keras.tree.map_structure(
                    lambda value: tensor_of(value) if type(value) is cls else value, (args, kwargs)
                )
            return stock(self, *args, **kwargs)

        return __call__

    wrap_once(keras.layers.Layer, "__call__", wrapper, key=cls.__name__)


def _is_of_keras(layer):
    is_own = type(layer).__module__.partition(".")[0] == "keras"
    return is_own and not isinstance(layer, keras.Model | keras.layers.Lambda)
