"""Convolutions with draws of the weights that are nearly independent between rows."""

from typing import Any

from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.layers.variational.convolution_variational_layer import (
    ConvolutionVariationalLayer,
    sections,
)
from keras_extras.layers.variational.float_inputs import as_floats
from keras_extras.layers.variational.noise import random_signs

_METHOD = """
    ```
    outputs = activation(conv(inputs, loc) + conv(inputs * r, scale * noise) * s + bias)
    loss += kl_weight * (KL(q(kernel), p(kernel)) + KL(q(bias), p(bias)))
    ```

    with random signs `r` for each row and channel of the inputs, and `s` for each row and filter.
    What holds for `DenseFlipout` holds here: the entries of the kernel's posterior must be
    independent and normal.

    References:
        Wen et al. (2018), "Flipout: efficient pseudo-independent weight perturbations on
        mini-batches", [arXiv:1803.04386](https://arxiv.org/abs/1803.04386).
    """


class ConvolutionFlipout(ConvolutionVariationalLayer):
    """A convolution with draws of the kernel that are nearly independent between rows."""

    needs_normal_kernel = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        inputs = as_floats(self, inputs)
        loc, noise = self.draw_noise()
        outputs = self.convolve(inputs, loc)
        flipped = self.convolve(self._flip(inputs), noise)
        outputs += self._flip(flipped)
        return self.finish(outputs, training)

    def _flip(self, values):
        """Values with random signs, the same at all places of a row's channel."""
        shape = [ops.shape(values)[0], *(1,) * (self.rank + 1)]
        shape[self.channel_axis] = values.shape[self.channel_axis]
        return random_signs(values, shape, self.seed_generator)


@serializable
@fill_docstring(method=_METHOD, sections=sections("Flipout", 1))
class Convolution1DFlipout(ConvolutionFlipout):
    """A convolution over one axis that flips the signs of a draw for each row.

    {method}

    {sections}
    """

    rank = 1


@serializable
@fill_docstring(method=_METHOD, sections=sections("Flipout", 2))
class Convolution2DFlipout(ConvolutionFlipout):
    """A convolution over two axes that flips the signs of a draw for each row.

    {method}

    {sections}
    """

    rank = 2


@serializable
@fill_docstring(method=_METHOD, sections=sections("Flipout", 3))
class Convolution3DFlipout(ConvolutionFlipout):
    """A convolution over three axes that flips the signs of a draw for each row.

    {method}

    {sections}
    """

    rank = 3
