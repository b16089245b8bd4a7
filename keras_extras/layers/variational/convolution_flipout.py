"""Convolutions with draws of the weights that are nearly independent between rows."""

from typing import Any

from keras_extras._core.probability import tf, tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.variational.convolution_variational_layer import (
    ConvolutionVariationalLayer,
)
from keras_extras.layers.variational.float_inputs import as_floats
from keras_extras.layers.variational.noise import random_signs
from keras_extras.layers.variational.weight_divergence import normal_entries


class ConvolutionFlipout(ConvolutionVariationalLayer):
    """A convolution with draws of the kernel that are nearly independent between rows."""

    needs_normal_kernel = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        inputs = as_floats(self, inputs)
        posterior = self.computed(self.kernel_posterior)
        entries = normal_entries(posterior)
        centered = tfd.Independent(
            tfd.Normal(tf.zeros_like(entries.loc), entries.scale), self.rank + 2
        )
        noise = self.draw(centered, self.kernel_posterior_tensor_fn)
        outputs = self.convolve(inputs, entries.loc)
        flipped = self.convolve(self._flip(inputs), noise)
        outputs += self._flip(flipped)
        return self.finish(outputs, training)

    def _flip(self, values):
        """Values with random signs, the same at all places of a row's channel."""
        shape = [tf.shape(values)[0], *(1,) * (self.rank + 1)]
        shape[self.channel_axis] = values.shape[self.channel_axis]
        return random_signs(values, shape, self.next_seed())


@serializable
class Convolution1DFlipout(ConvolutionFlipout):
    """A convolution over one axis that flips the signs of a draw for each row.

    ```
    outputs = activation(conv(inputs, loc) + conv(inputs * r, scale * noise) * s + bias)
    loss += kl_weight * (KL(q(kernel), p(kernel)) + KL(q(bias), p(bias)))
    ```

    with random signs `r` for each row and channel of the inputs, and `s` for each row and filter.
    What holds for `DenseFlipout` holds here.

    References:
        Wen et al. (2018), "Flipout: efficient pseudo-independent weight perturbations on
        mini-batches", [arXiv:1803.04386](https://arxiv.org/abs/1803.04386).

    Args:
        filters: Integer, the number of filters, the length of the outputs' channel axis.
        kernel_size, strides, dilation_rate: Integers, or tuples of one, as in
            `keras.layers.Conv1D`.
        padding, data_format: As in `keras.layers.Conv1D`; the data format is by default that of
            Keras' configuration.
        activation, activity_regularizer: As in `keras.layers.Conv1D`.
        kernel_posterior_fn, kernel_posterior_tensor_fn: The posterior of the kernel and what is
            drawn from it, as in `DenseReparameterization`. Entries must be
            independent and normal.
        kernel_prior_fn, kernel_divergence_fn: The prior of the kernel and the divergence, as in
            `DenseReparameterization`.
        bias_posterior_fn, bias_posterior_tensor_fn: The same of the bias; `None` for no bias.
        bias_prior_fn, bias_divergence_fn: The same of the bias.
        kl_weight: Multiplies the divergence: `"auto"` for one divided by the number of training
            rows, which a mean loss needs; a number; or `None` for 1, as in
            `DenseReparameterization`. Defaults to `None`.
        posterior, prior: Names for both kernel and bias, as in `DenseReparameterization`.
        seed: Integer seed of the draws. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name`.

    Input shape:
        `(batch_size, steps, channels)` with `data_format="channels_last"`.

    Output shape:
        That of `keras.layers.Conv1D`.

    Example:

    ```python
    import numpy as np
    from keras_extras import layers

    layer = layers.Convolution1DFlipout(4, 3, activation="relu", kl_weight=1 / 1000)
    layer(np.zeros((8, 10, 3)))  # 4 channels, of a new draw at each call
    layer.losses  # the weighted divergence
    ```
    """

    rank = 1


@serializable
class Convolution2DFlipout(ConvolutionFlipout):
    """A convolution over two axes that flips the signs of a draw for each row.

    ```
    outputs = activation(conv(inputs, loc) + conv(inputs * r, scale * noise) * s + bias)
    loss += kl_weight * (KL(q(kernel), p(kernel)) + KL(q(bias), p(bias)))
    ```

    with random signs `r` for each row and channel of the inputs, and `s` for each row and filter.
    What holds for `DenseFlipout` holds here.

    References:
        Wen et al. (2018), "Flipout: efficient pseudo-independent weight perturbations on
        mini-batches", [arXiv:1803.04386](https://arxiv.org/abs/1803.04386).

    Args:
        filters: Integer, the number of filters, the length of the outputs' channel axis.
        kernel_size, strides, dilation_rate: Integers, or tuples of two, as in
            `keras.layers.Conv2D`.
        padding, data_format: As in `keras.layers.Conv2D`; the data format is by default that of
            Keras' configuration.
        activation, activity_regularizer: As in `keras.layers.Conv2D`.
        kernel_posterior_fn, kernel_posterior_tensor_fn: The posterior of the kernel and what is
            drawn from it, as in `DenseReparameterization`. Entries must be
            independent and normal.
        kernel_prior_fn, kernel_divergence_fn: The prior of the kernel and the divergence, as in
            `DenseReparameterization`.
        bias_posterior_fn, bias_posterior_tensor_fn: The same of the bias; `None` for no bias.
        bias_prior_fn, bias_divergence_fn: The same of the bias.
        kl_weight: Multiplies the divergence: `"auto"` for one divided by the number of training
            rows, which a mean loss needs; a number; or `None` for 1, as in
            `DenseReparameterization`. Defaults to `None`.
        posterior, prior: Names for both kernel and bias, as in `DenseReparameterization`.
        seed: Integer seed of the draws. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name`.

    Input shape:
        `(batch_size, height, width, channels)` with `data_format="channels_last"`.

    Output shape:
        That of `keras.layers.Conv2D`.

    Example:

    ```python
    import numpy as np
    from keras_extras import layers

    layer = layers.Convolution2DFlipout(4, 3, activation="relu", kl_weight=1 / 1000)
    layer(np.zeros((8, 10, 10, 3)))  # 4 channels, of a new draw at each call
    layer.losses  # the weighted divergence
    ```
    """

    rank = 2


@serializable
class Convolution3DFlipout(ConvolutionFlipout):
    """A convolution over three axes that flips the signs of a draw for each row.

    ```
    outputs = activation(conv(inputs, loc) + conv(inputs * r, scale * noise) * s + bias)
    loss += kl_weight * (KL(q(kernel), p(kernel)) + KL(q(bias), p(bias)))
    ```

    with random signs `r` for each row and channel of the inputs, and `s` for each row and filter.
    What holds for `DenseFlipout` holds here.

    References:
        Wen et al. (2018), "Flipout: efficient pseudo-independent weight perturbations on
        mini-batches", [arXiv:1803.04386](https://arxiv.org/abs/1803.04386).

    Args:
        filters: Integer, the number of filters, the length of the outputs' channel axis.
        kernel_size, strides, dilation_rate: Integers, or tuples of three, as in
            `keras.layers.Conv3D`.
        padding, data_format: As in `keras.layers.Conv3D`; the data format is by default that of
            Keras' configuration.
        activation, activity_regularizer: As in `keras.layers.Conv3D`.
        kernel_posterior_fn, kernel_posterior_tensor_fn: The posterior of the kernel and what is
            drawn from it, as in `DenseReparameterization`. Entries must be
            independent and normal.
        kernel_prior_fn, kernel_divergence_fn: The prior of the kernel and the divergence, as in
            `DenseReparameterization`.
        bias_posterior_fn, bias_posterior_tensor_fn: The same of the bias; `None` for no bias.
        bias_prior_fn, bias_divergence_fn: The same of the bias.
        kl_weight: Multiplies the divergence: `"auto"` for one divided by the number of training
            rows, which a mean loss needs; a number; or `None` for 1, as in
            `DenseReparameterization`. Defaults to `None`.
        posterior, prior: Names for both kernel and bias, as in `DenseReparameterization`.
        seed: Integer seed of the draws. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name`.

    Input shape:
        `(batch_size, depth, height, width, channels)` with `data_format="channels_last"`.

    Output shape:
        That of `keras.layers.Conv3D`.

    Example:

    ```python
    import numpy as np
    from keras_extras import layers

    layer = layers.Convolution3DFlipout(4, 3, activation="relu", kl_weight=1 / 1000)
    layer(np.zeros((8, 6, 6, 6, 3)))  # 4 channels, of a new draw at each call
    layer.losses  # the weighted divergence
    ```
    """

    rank = 3
