"""Layers whose curvature has Kronecker factors: `Dense`, `Conv1D`, `Conv2D` and `EinsumDense`."""

import math
import re
import string
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

_KINDS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.EinsumDense)
# Rows of a factor, whose eigenvectors then take 0.8 GB.
_MOST_ROWS = 10_000


class KroneckerLayer(NamedTuple):
    """A layer that computes `z = a W + b` at one or many positions of each row.

    A kernel of any shape is a matrix `W` of shape `(inputs, outputs)` with its entries in their
    order, and a bias is one more row of it.

    Attributes:
        layer: The layer.
        kernel: The position of its kernel among the model's trainable variables; None if held
            fixed.
        bias: The position of its bias; None if held fixed or missing.
        num_features: The number of rows of `W` that are uncertain, with that of the bias.
        num_outputs: The number of entries of `z`.
    """

    layer: keras.layers.Layer
    kernel: int | None
    bias: int | None
    num_features: int
    num_outputs: int

    @property
    def positions(self) -> list[int]:
        """The positions of its uncertain weights, the kernel first."""
        return [place for place in (self.kernel, self.bias) if place is not None]

    def outputs(self, inputs: Any, kernel: Any, bias: Any) -> Any:
        """Returns `z`, to which the layer applies its activation.

        Args:
            inputs: Tensor, the inputs of the layer.
            kernel: Tensor.
            bias: Tensor; None without one.
        """
        layer = self.layer
        if isinstance(layer, keras.layers.Dense):
            outputs = ops.matmul(inputs, kernel)
        elif isinstance(layer, keras.layers.EinsumDense):
            outputs = ops.einsum(layer.equation, inputs, kernel)
        else:
            inputs, padding = _padded(layer, inputs)
            outputs = ops.conv(
                inputs,
                kernel,
                strides=list(layer.strides),
                padding=padding,
                dilation_rate=layer.dilation_rate,
                data_format=layer.data_format,
            )
            if bias is not None and layer.data_format == "channels_first":
                bias = ops.reshape(bias, (-1, *[1] * layer.rank))
        return outputs if bias is None else ops.add(outputs, bias)

    def features(self, inputs: Any) -> Any:
        """Returns `a` at all positions, and 1 for a bias, of shape `(rows, positions, features)`.

        Args:
            inputs: Tensor, the inputs of the layer.
        """
        layer, has_bias = self.layer, self.bias is not None
        if isinstance(layer, keras.layers.EinsumDense):
            inputs = ops.transpose(inputs, _einsum_axes(layer.equation, inputs=inputs).of_inputs)
        elif not isinstance(layer, keras.layers.Dense):
            inputs = _patches(layer, inputs)
        size = math.prod(layer.kernel.shape) // self.num_outputs
        features = ops.reshape(inputs, (ops.shape(inputs)[0], -1, size))
        ones = [ops.ones_like(features[..., :1])] if has_bias else []
        return ops.concatenate([*([] if self.kernel is None else [features]), *ones], axis=-1)

    def by_position(self, outputs: Any) -> Any:
        """Returns a tensor with axes like `z` as a matrix with a row for each position.

        Args:
            outputs: Tensor.
        """
        layer = self.layer
        if isinstance(layer, keras.layers.EinsumDense):
            axes = _einsum_axes(layer.equation, outputs=outputs)
            outputs = ops.transpose(outputs, axes.of_outputs)
        elif not isinstance(layer, keras.layers.Dense) and layer.data_format == "channels_first":
            outputs = ops.moveaxis(outputs, 1, -1)
        return ops.reshape(outputs, (-1, self.num_outputs))


def kronecker_layer(layer: keras.layers.Layer, places: Mapping[int, int]) -> KroneckerLayer | None:
    """Returns a layer with its uncertain weights, or None if they have no Kronecker factors.

    Args:
        layer: Any layer.
        places: Dict from the `id` of a variable that is uncertain to its position.
    """
    is_plain = (
        type(layer) in _KINDS
        and layer.built
        and "call" not in vars(layer)
        and isinstance(layer.kernel, keras.Variable)
        and getattr(layer, "groups", 1) == 1
        and {id(v) for v in layer.trainable_variables} <= {id(layer.kernel), id(layer.bias)}
    )
    if not is_plain:
        return None
    shape = layer.kernel.shape
    num_outputs, joins_bias = shape[-1], True
    if type(layer) is keras.layers.EinsumDense:
        axes = _einsum_axes(layer.equation)
        if axes is None:
            return None
        num_outputs = math.prod(shape[len(shape) - len(axes.letters) :])
        joins_bias = layer.bias is not None and set(layer.bias_axes) == set(axes.letters)
    kernel = places.get(id(layer.kernel))
    bias = places.get(id(layer.bias)) if joins_bias else None
    num_features = (kernel is not None) * math.prod(shape) // num_outputs + (bias is not None)
    if not 0 < max(num_features, num_features and num_outputs) <= _MOST_ROWS:
        return None
    return KroneckerLayer(layer, kernel, bias, num_features, num_outputs)


class _EinsumAxes(NamedTuple):
    """Permutations of axes to `(positions, inputs)` and `(positions, outputs)`."""

    of_inputs: list[int]
    of_outputs: list[int]
    letters: str


def _einsum_axes(equation, inputs=None, outputs=None):
    """The axes of an equation like `"abc,cde->abde"`; None for one that is no matrix product.

    Inputs or outputs show how many axes an ellipsis stands for; without them it is one.
    """
    written = re.split(",|->", equation.replace(" ", ""))
    given = [
        (part, t) for part, t in ((written[0], inputs), (written[2], outputs)) if t is not None
    ]
    num_elided = len(given[0][1].shape) - len(given[0][0].replace("...", "")) if given else 1
    unused = [letter for letter in string.ascii_letters if letter not in equation]
    elided = "".join(unused[:num_elided])
    inputs, kernel, outputs = (part.replace("...", elided) for part in written)
    contracted = [letter for letter in kernel if letter not in outputs]
    made = [letter for letter in kernel if letter in outputs]
    shared = [letter for letter in inputs if letter not in kernel]
    fits = (
        [*kernel] == contracted + made
        and sorted(inputs) == sorted(shared + contracted)
        and sorted(outputs) == sorted(shared + made)
        and [letter for letter in outputs if letter in made] == made
        and inputs[0] == outputs[0]
        and inputs[0] in shared
    )
    if not fits:
        return None
    return _EinsumAxes(
        [inputs.index(letter) for letter in shared + contracted],
        [outputs.index(letter) for letter in shared + made],
        "".join(made),
    )


def _padded(layer, inputs):
    """The inputs of a convolution and its padding, without one that is causal."""
    if layer.padding != "causal":
        return inputs, layer.padding
    before = [(layer.kernel_size[0] - 1) * layer.dilation_rate[0], 0]
    steps = 1 if layer.data_format == "channels_last" else 2
    return ops.pad(inputs, [before if axis == steps else [0, 0] for axis in range(3)]), "valid"


def _patches(layer, inputs):
    """Extracts the patches that a convolution multiplies by its kernel, on the last axis."""
    inputs, padding = _padded(layer, inputs)
    if layer.data_format == "channels_first":
        inputs = ops.moveaxis(inputs, 1, -1)
    is_sequence = layer.rank == 1
    one = [1] if is_sequence else []
    return ops.image.extract_patches(
        inputs[:, None] if is_sequence else inputs,
        (*one, *layer.kernel_size),
        strides=(*one, *layer.strides),
        dilation_rate=layer.dilation_rate[0] if is_sequence else layer.dilation_rate,
        padding=padding,
        data_format="channels_last",
    )
