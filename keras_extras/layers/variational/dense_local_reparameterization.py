"""DenseLocalReparameterization: the outputs are drawn instead of the kernel."""

from typing import Any

from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.variational.dense_variational_layer import (
    NORMAL_KERNEL,
    DenseVariationalLayer,
    example,
)
from keras_extras.layers.variational.float_inputs import as_floats
from keras_extras.layers.variational.weight_divergence import normal_entries

_TINY = 1e-12


@serializable
@fill_docstring(normal_kernel=NORMAL_KERNEL, example=example("DenseLocalReparameterization"))
class DenseLocalReparameterization(DenseVariationalLayer):
    """A dense layer that draws its outputs from the distribution that a random kernel gives them.

    ```
    outputs = activation(inputs @ loc + sqrt(inputs^2 @ scale^2) * noise + bias)
    loss += kl_weight * (KL(q(kernel), p(kernel)) + KL(q(bias), p(bias)))
    ```

    Noise is drawn for each entry of the outputs, as if each row had its own kernel. Gradients
    of a batch vary less than with `DenseReparameterization`. The bias is drawn once. The
    divergences are summed over all weights.

    References:
        Kingma, Salimans and Welling (2015), "Variational dropout and the local
        reparameterization trick", [arXiv:1506.02557](https://arxiv.org/abs/1506.02557).

    {normal_kernel}

    {example}
    """

    needs_normal_kernel = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        inputs = as_floats(self, inputs)
        entries = normal_entries(self.computed(self.kernel_posterior))
        loc = ops.matmul(inputs, ops.cast(entries.loc, inputs.dtype))
        # Variances in the dtype of the variables, because squares of half floats overflow.
        squares = ops.square(ops.cast(inputs, entries.scale.dtype))
        variance = ops.matmul(squares, ops.square(entries.scale))
        # An input of zeros has no variance, and a root no derivative there.
        scale = ops.sqrt(variance + _TINY)
        outputs = self.draw(
            tfd.Normal(ops.cast(loc, scale.dtype), scale), self.kernel_posterior_tensor_fn
        )
        return self.finish(ops.cast(outputs, inputs.dtype), training)
