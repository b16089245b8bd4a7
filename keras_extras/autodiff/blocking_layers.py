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
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    with keras.StatelessScope():
        return [layer.name for layer in layers if _blocks(layer, model, x, training)]


def _blocks(layer, model, x, training):
    try:
        arrives = keras.Model(model.inputs, layer.input)(keras.tree.flatten(x), training=training)
        return not _has_gradient(keras.Model(layer.input, layer.output), arrives, training)
    except Exception:  # Of a shared layer, or one that takes distributions, nothing can be said.
        return False


def _has_gradient(layer, inputs, training):
    """Whether there is a gradient, or nothing to differentiate."""
    import tensorflow as tf

    inputs = keras.tree.map_structure(tf.convert_to_tensor, inputs)
    watched = [leaf for leaf in keras.tree.flatten(inputs) if leaf.dtype.is_floating]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(watched)
        outputs = map(tf.convert_to_tensor, keras.tree.flatten(layer(inputs, training=training)))
        totals = [tf.reduce_sum(output) for output in outputs if output.dtype.is_floating]
    gradients = tape.gradient(totals, watched) if totals else []
    return not watched or any(gradient is not None for gradient in gradients)
