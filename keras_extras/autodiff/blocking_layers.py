"""Which layers of a model let no derivative through."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.differentiation import check_second_derivatives, value_and_gradients
from keras_extras._core.stateless import substituted
from keras_extras._seams.layer_calls import replaced_calls


def blocking_layers(
    model: keras.Model, x: Any, training: bool = False, order: int = 1
) -> list[str]:
    """Returns the names of the layers whose outputs have no gradient by their inputs.

    Layers that take integers only, such as embeddings, are left out, as are those whose gradient
    exists and is zero.

    Args:
        model: Keras model; of a layer or a loss the list is empty.
        x: Inputs, a structure of tensors.
        training: Boolean, passed to the layers.
        order: 2 for the layers whose gradients have no gradient. Defaults to `1`.
    """
    layers = [
        layer
        for layer in getattr(model, "layers", ())
        if not isinstance(layer, keras.layers.InputLayer)
    ]
    if not layers:
        return []
    found: list[str] = []

    def recording(layer, call):
        return _recording(layer.name, call, found, order)

    with replaced_calls(layers, recording), substituted():
        model(x, training=training)
    return found


def _recording(name, call, found, order):
    """A call that adds the layer's name to `found` if there is no gradient."""

    def recorded(*args, **kwargs):
        leaves = keras.tree.flatten((args, kwargs))
        watched = {
            number: ops.convert_to_tensor(leaf)
            for number, leaf in enumerate(leaves)
            if ops.is_tensor(leaf) and _is_float(leaf)
        }

        def total(values):
            given = dict(zip(watched, values))
            given = [given.get(number, leaf) for number, leaf in enumerate(leaves)]
            args_given, kwargs_given = keras.tree.pack_sequence_as((args, kwargs), given)
            with substituted():
                outputs = keras.tree.flatten(call(*args_given, **kwargs_given))
            tensors = filter(_is_float, map(ops.convert_to_tensor, outputs))
            return sum((ops.cast(ops.sum(t), "float32") for t in tensors), ops.zeros((), "float32"))

        if watched and name not in found and _blocks(total, list(watched.values()), order):
            found.append(name)
        return call(*args, **kwargs)

    return recorded


def _blocks(function, values, order):
    def gradients(values):
        return value_and_gradients(function, values)[1]

    if order == 1:
        return all(gradient is None for gradient in gradients(values))
    try:
        check_second_derivatives(gradients, values)
    except ValueError:
        return True
    return False


def _is_float(tensor):
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))
