"""DenseFlipout: draws of the weights that are nearly independent between rows."""

from typing import Any

from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.layers.variational.dense_variational_layer import (
    NORMAL_KERNEL,
    DenseVariationalLayer,
    example,
)
from keras_extras.layers.variational.float_inputs import as_floats
from keras_extras.layers.variational.noise import random_signs


@serializable
@fill_docstring(normal_kernel=NORMAL_KERNEL, example=example("DenseFlipout"))
class DenseFlipout(DenseVariationalLayer):
    """A dense layer that draws its kernel with the signs of the noise flipped for each row.

    ```
    outputs = activation(inputs @ loc + ((inputs * r) @ (scale * noise)) * s + bias)
    loss += kl_weight * (KL(q(kernel), p(kernel)) + KL(q(bias), p(bias)))
    ```

    with random signs `r` and `s` for each row. Their outer product flips the signs of one draw of
    the noise, so that rows see different kernels and gradients of a batch vary less than with
    `DenseReparameterization`. The bias is drawn once. The divergences are summed over all weights.

    References:
        Wen et al. (2018), "Flipout: efficient pseudo-independent weight perturbations on
        mini-batches", [arXiv:1803.04386](https://arxiv.org/abs/1803.04386).

    {normal_kernel}

    {example}
    """

    needs_normal_kernel = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        inputs = as_floats(self, inputs)
        loc, noise = self.draw_noise()
        outputs = ops.matmul(inputs, ops.cast(loc, inputs.dtype))
        flipped = random_signs(inputs, ops.shape(inputs), self.seed_generator)
        flipped = ops.matmul(flipped, ops.cast(noise, inputs.dtype))
        outputs += random_signs(flipped, ops.shape(flipped), self.seed_generator)
        return self.finish(outputs, training)
