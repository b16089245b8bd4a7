"""Distributions that are inputs of layers of distributions, also while a model is put together."""

from typing import Any

import keras

from keras_extras._core.distribution_kinds import tensor_of
from keras_extras._core.probability import tfd, tfp


def output_spec(layer: keras.layers.Layer, inputs: Any) -> keras.KerasTensor:
    """Returns the placeholder of a layer's distribution in a functional model.

    Keras hands placeholders of tensors from layer to layer. A placeholder of a distribution knows
    how to make it, so that the function of the next layer of distributions sees one there, too.

    Args:
        layer: A layer of distributions.
        inputs: A placeholder, or a structure of them.
    """
    flat = keras.tree.flatten(inputs)
    sources = [getattr(value, "source", None) for value in flat]
    bases = [value if source is None else source[1] for value, source in zip(flat, sources)]

    def make(bases):
        values = [base if not source else source[0](base) for base, source in zip(bases, sources)]
        try:
            return layer.call(keras.tree.pack_sequence_as(inputs, values))
        except AttributeError as error:
            if error.name not in vars(tfd.Distribution):
                raise
            raise TypeError(
                f"Layer {layer.name!r} got a tensor where its function uses a distribution "
                f"({error}). While a model is put together, one comes only from a layer of "
                "distributions directly before it: call the layers of an inner model one by one, "
                "or write a subclass of `keras.Model`"
            ) from error

    step = _Step(make, layer)
    spec = _spec_of(step, bases)
    spec.source = (make, bases)
    return spec


def tensor_of_unknown_length(layer: keras.layers.Layer, inputs: Any) -> Any:
    """Returns a tensor of the output's shape if JAX traces inputs of unknown length, or None.

    Keras traces the `call` of a user's layer or model so, to learn its shapes. TFP needs lengths.

    Args:
        layer: A layer of distributions.
        inputs: A tensor, or a structure of them.
    """
    sizes = [size for value in keras.tree.flatten(inputs) for size in value.shape]
    unknown = [size for size in sizes if not isinstance(size, int)]
    if keras.backend.backend() != "jax" or not unknown:
        return None

    def placeholder(value):
        shape = [size if isinstance(size, int) else None for size in value.shape]
        return keras.KerasTensor(shape, keras.backend.standardize_dtype(value.dtype))

    spec = output_spec(layer, keras.tree.map_structure(placeholder, inputs))
    return keras.ops.zeros(
        [unknown[0] if size is None else size for size in spec.shape], spec.dtype
    )


def _spec_of(step, bases):
    # Not that of the layer: it would ask `compute_output_shape`, which asks for this.
    def spec(bases):
        return keras.Operation.compute_output_spec(step, bases)

    if keras.backend.backend() != "jax":
        return spec(bases)
    # TFP computes with the numbers of a shape, which are symbols there: two lengths show which
    # axes have a length that is not known.
    one, other = (spec(keras.tree.map_structure(_of_length(length), bases)) for length in (83, 89))
    shape = [a if a == b else None for a, b in zip(one.shape, other.shape, strict=True)]
    return keras.KerasTensor(shape, one.dtype)


def _of_length(length):
    def known(value):
        shape = [length if size is None else size for size in value.shape]
        return keras.KerasTensor(shape, value.dtype)

    return known


class _Step(keras.Operation):
    """Operation that Keras traces for the shape and dtype of an output."""

    def __init__(self, function, layer):
        super().__init__(name=layer.name)
        self.call = lambda bases: tensor_of(function(bases))


def with_tensors(distribution: Any) -> Any:
    """Returns the distribution with tensors as parameters where it got distributions for them.

    TFP takes the batch shape of a parameter that has one, and an output of ours has that of the
    distribution, which lacks the axes of the event.
    """
    changed = {}
    kinds = None
    for name, value in distribution.parameters.items():
        if not isinstance(value, tfd.Distribution):
            continue
        if hasattr(value, "tensor_distribution"):
            kinds = _kinds_of_parameters(distribution) if kinds is None else kinds
            if not isinstance(kinds.get(name), tfp.util.BatchedComponentProperties):
                changed[name] = tensor_of(value)
        else:
            inner = with_tensors(value)
            if inner is not value:
                changed[name] = inner
    return distribution.copy(**changed) if changed else distribution


def _kinds_of_parameters(distribution):
    try:
        return type(distribution).parameter_properties()
    except NotImplementedError:
        return {}
