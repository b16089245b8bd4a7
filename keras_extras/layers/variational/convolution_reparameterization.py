"""Convolutions with one draw of the weights for the whole batch."""

from typing import Any

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.layers.variational.convolution_variational_layer import (
    ConvolutionVariationalLayer,
    sections,
)
from keras_extras.layers.variational.float_inputs import as_floats

_METHOD = """
    ```
    kernel ~ q, bias ~ q;  outputs = activation(convolution(inputs, kernel) + bias)
    loss += kl_weight * (KL(q(kernel), p(kernel)) + KL(q(bias), p(bias)))
    ```

    What holds for `DenseReparameterization` holds here.

    References:
        Kingma and Welling (2014), "Auto-encoding variational Bayes",
        [arXiv:1312.6114](https://arxiv.org/abs/1312.6114).
    """


class ConvolutionReparameterization(ConvolutionVariationalLayer):
    """A convolution with one draw of the kernel for the whole batch."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        inputs = as_floats(self, inputs)
        return self.finish(self.convolve(inputs, self.draw_kernel()), training)


@serializable
@fill_docstring(method=_METHOD, sections=sections("Reparameterization", 1))
class Convolution1DReparameterization(ConvolutionReparameterization):
    """A convolution over one axis that draws its kernel and bias, once for the whole batch.

    {method}

    {sections}
    """

    rank = 1


@serializable
@fill_docstring(method=_METHOD, sections=sections("Reparameterization", 2))
class Convolution2DReparameterization(ConvolutionReparameterization):
    """A convolution over two axes that draws its kernel and bias, once for the whole batch.

    {method}

    {sections}
    """

    rank = 2


@serializable
@fill_docstring(method=_METHOD, sections=sections("Reparameterization", 3))
class Convolution3DReparameterization(ConvolutionReparameterization):
    """A convolution over three axes that draws its kernel and bias, once for the whole batch.

    {method}

    {sections}
    """

    rank = 3
