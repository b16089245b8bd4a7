"""Convolutions with one draw of the weights for the whole batch."""

from typing import Any

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.layers.variational.convolution_variational_layer import (
    ConvolutionVariationalLayer,
)
from keras_extras.layers.variational.float_inputs import as_floats
from keras_extras.layers.variational.variational_layer import WEIGHT_ARGUMENTS

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
        posterior = self.computed(self.kernel_posterior)
        kernel = self.draw(posterior, self.kernel_posterior_tensor_fn)
        return self.finish(self.convolve(inputs, kernel), training)


@serializable
@fill_docstring(method=_METHOD, weight_arguments=WEIGHT_ARGUMENTS)
class Convolution1DReparameterization(ConvolutionReparameterization):
    """A convolution over one axis that draws its kernel and bias, once for the whole batch.

    {method}

    Args:
        filters, kernel_size, strides, padding, data_format, dilation_rate: As in
            `keras.layers.Conv1D`.
        {weight_arguments}

    Input shape:
        `(batch_size, steps, channels)` with `data_format="channels_last"`.

    Output shape:
        That of `keras.layers.Conv1D`.

    Example:

    ```python
    import numpy as np
    from keras_extras import layers

    layer = layers.Convolution1DReparameterization(4, 3, activation="relu", kl_weight=1 / 1000)
    layer(np.zeros((8, 10, 3)))  # 4 channels, of a new draw at each call
    layer.losses  # the weighted divergence
    ```
    """

    rank = 1


@serializable
@fill_docstring(method=_METHOD, weight_arguments=WEIGHT_ARGUMENTS)
class Convolution2DReparameterization(ConvolutionReparameterization):
    """A convolution over two axes that draws its kernel and bias, once for the whole batch.

    {method}

    Args:
        filters, kernel_size, strides, padding, data_format, dilation_rate: As in
            `keras.layers.Conv2D`.
        {weight_arguments}

    Input shape:
        `(batch_size, height, width, channels)` with `data_format="channels_last"`.

    Output shape:
        That of `keras.layers.Conv2D`.

    Example:

    ```python
    import numpy as np
    from keras_extras import layers

    layer = layers.Convolution2DReparameterization(4, 3, activation="relu", kl_weight=1 / 1000)
    layer(np.zeros((8, 10, 10, 3)))  # 4 channels, of a new draw at each call
    layer.losses  # the weighted divergence
    ```
    """

    rank = 2


@serializable
@fill_docstring(method=_METHOD, weight_arguments=WEIGHT_ARGUMENTS)
class Convolution3DReparameterization(ConvolutionReparameterization):
    """A convolution over three axes that draws its kernel and bias, once for the whole batch.

    {method}

    Args:
        filters, kernel_size, strides, padding, data_format, dilation_rate: As in
            `keras.layers.Conv3D`.
        {weight_arguments}

    Input shape:
        `(batch_size, depth, height, width, channels)` with `data_format="channels_last"`.

    Output shape:
        That of `keras.layers.Conv3D`.

    Example:

    ```python
    import numpy as np
    from keras_extras import layers

    layer = layers.Convolution3DReparameterization(4, 3, activation="relu", kl_weight=1 / 1000)
    layer(np.zeros((8, 6, 6, 6, 3)))  # 4 channels, of a new draw at each call
    layer.losses  # the weighted divergence
    ```
    """

    rank = 3
