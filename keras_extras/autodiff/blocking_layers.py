"""Which layers of a model let no derivative through."""

from typing import Any

import keras


def blocking_layers(model: keras.Model, x: Any, training: bool = False) -> list[str]:
    """Returns the names of the layers whose outputs have no gradient by their inputs.

    Layers that take integers only, such as embeddings, are left out, as are those whose gradient
    exists and is zero.

    Args:
        model: Keras model; of a layer or a loss the list is empty.
        x: Inputs, a structure of tensors.
        training: Boolean, passed to the layers.
    """
    layers = [
        layer
        for layer in getattr(model, "layers", ())
        if not isinstance(layer, keras.layers.InputLayer)
    ]
    if not layers:
        return []
    calls = [layer.call for layer in layers]
    found: list[str] = []
    try:
        for layer, call in zip(layers, calls):
            layer.call = _recording(layer.name, call, found)
        with keras.StatelessScope():
            model(x, training=training)
    finally:
        for layer, call in zip(layers, calls):
            layer.call = call
    return found


def _recording(name, call, found):
    """A call that adds the layer's name to `found` if there is no gradient."""
    import tensorflow as tf

    def recorded(*args, **kwargs):
        leaves = [leaf for leaf in keras.tree.flatten((args, kwargs)) if tf.is_tensor(leaf)]
        watched = [leaf for leaf in map(tf.convert_to_tensor, leaves) if leaf.dtype.is_floating]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            outputs = call(*args, **kwargs)
            tensors = map(tf.convert_to_tensor, keras.tree.flatten(outputs))
            totals = [tf.reduce_sum(tensor) for tensor in tensors if tensor.dtype.is_floating]
        gradients = tape.gradient(totals, watched) if totals else []
        if watched and name not in found and all(gradient is None for gradient in gradients):
            found.append(name)
        return outputs

    return recorded
