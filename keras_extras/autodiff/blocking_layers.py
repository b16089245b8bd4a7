"""Which layers of a model let no derivative through."""

from typing import Any

import keras
from keras import ops


def blocking_layers(model: keras.Model, x: Any, training: bool = False) -> list[str]:
    """Returns the names of the layers whose outputs have no gradient by their inputs.

    Layers that take integers only, such as embeddings, are left out, as are those whose gradient
    exists and is zero. In subclassed models nobody knows what flows where, and the list is empty.

    Args:
        model: Keras model.
        x: Inputs, a structure of tensors.
        training: Boolean, passed to the layers.
    """
    if not getattr(model, "inputs", None):
        return []
    called_once = [layer for layer in model.layers if _is_called_once(layer)]
    if not called_once:
        return []
    inputs = [layer.input for layer in called_once]
    with keras.StatelessScope():
        arrivals = keras.Model(model.inputs, inputs)(keras.tree.flatten(x), training=training)
        return [
            layer.name
            for layer, arriving in zip(called_once, arrivals)
            if _blocks(keras.Model(layer.input, layer.output), arriving, training)
        ]


def _is_called_once(layer):
    if isinstance(layer, keras.layers.InputLayer):
        return False
    try:
        return layer.input is not None and layer.output is not None
    except (AttributeError, ValueError):  # Keras does not say which of several calls is meant.
        return False


def _blocks(layer, inputs, training):
    import tensorflow as tf

    inputs = keras.tree.map_structure(tf.convert_to_tensor, inputs)
    watched = [leaf for leaf in keras.tree.flatten(inputs) if leaf.dtype.is_floating]
    if not watched:
        return False
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(watched)
        outputs = keras.tree.flatten(layer(inputs, training=training))
        outputs = [ops.convert_to_tensor(output) for output in outputs]
        total = [tf.reduce_sum(output) for output in outputs if output.dtype.is_floating]
    return not total or all(part is None for part in tape.gradient(total, watched))
