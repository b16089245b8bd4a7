"""Which layers of a model let no derivative through."""

from typing import Any

import keras


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
    with keras.StatelessScope():
        return [layer.name for layer in model.layers if _blocks(layer, model, x, training)]


def _blocks(layer, model, x, training):
    import tensorflow as tf

    if isinstance(layer, keras.layers.InputLayer):
        return False
    try:
        arrives = keras.Model(model.inputs, layer.input)
        leaves = keras.Model(layer.input, layer.output)
    except (AttributeError, ValueError):  # Of several calls, Keras does not know which is meant.
        return False
    inputs = arrives(keras.tree.flatten(x), training=training)
    inputs = keras.tree.map_structure(tf.convert_to_tensor, inputs)
    watched = [leaf for leaf in keras.tree.flatten(inputs) if leaf.dtype.is_floating]
    if not watched:
        return False
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(watched)
        outputs = keras.tree.flatten(leaves(inputs, training=training))
        outputs = [tf.convert_to_tensor(output) for output in outputs]
        total = [tf.reduce_sum(output) for output in outputs if output.dtype.is_floating]
    return not total or all(part is None for part in tape.gradient(total, watched))
