"""vectorized_map: a function of many elements at once, without what ends the process."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_extras._seams.products_of_two_axes import products_of_two_axes


def vectorized_map(function: Callable[[Any], Any], elements: Any) -> Any:
    """Returns the results of a function for all elements, stacked along a new first axis.

    Args:
        function: From a structure of tensors to a structure of tensors.
        elements: Structure of tensors with one element along their first axis.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.vectorized_map(function, elements)
    import tensorflow as tf

    if {leaf.shape[0] for leaf in keras.tree.flatten(elements)} == {1}:
        # TensorFlow cannot map over a function with a map over one element in it.
        first = keras.tree.map_structure(lambda leaf: ops.convert_to_tensor(leaf)[0], elements)
        results = function(first)
        return keras.tree.map_structure(lambda part: ops.convert_to_tensor(part)[None], results)
    with products_of_two_axes():
        # What is not converted, such as random numbers, runs in a loop, and would log that.
        return tf.vectorized_map(function, elements, warn=False)
