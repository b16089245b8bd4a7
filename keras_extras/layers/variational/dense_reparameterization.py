"""DenseReparameterization: one draw of the weights for the whole batch."""

from typing import Any

from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.layers.variational.dense_variational_layer import DenseVariationalLayer, example
from keras_extras.layers.variational.float_inputs import as_floats


@serializable
@fill_docstring(example=example("DenseReparameterization"))
class DenseReparameterization(DenseVariationalLayer):
    """A dense layer that draws its kernel and bias, once for the whole batch.

    ```
    kernel ~ q, bias ~ q;  outputs = activation(inputs @ kernel + bias)
    loss += kl_weight * (KL(q(kernel), p(kernel)) + KL(q(bias), p(bias)))
    ```

    where a draw of a normal posterior is location + scale * noise, through which gradients flow.
    The divergences are summed over all weights. Every call draws, also that of `predict`:
    `keras_extras.predict_distribution` averages over many draws.

    With `kl_weight="auto"` the layer learns the number of training rows in `fit`: of arrays
    exactly, of datasets of known length as batches times the rows of the first batch, and of
    generators and endless datasets from `steps_per_epoch`, without which training raises an error.
    Rows that `Dataset.repeat` brings several times count once.

    References:
        Kingma and Welling (2014), "Auto-encoding variational Bayes",
        [arXiv:1312.6114](https://arxiv.org/abs/1312.6114); Blundell et al. (2015), "Weight
        uncertainty in neural networks", [arXiv:1505.05424](https://arxiv.org/abs/1505.05424).

    Args:
        units: Integer, the length of the outputs' last axis.
        activation: Activation function of the output. Defaults to `None`.
        activity_regularizer: Regularizer of the output. Defaults to `None`.
        kernel_posterior_fn: The posterior of the kernel: the name of a ready-made one; or a
            function like `default_mean_field_normal_fn()`, called with `dtype`, `shape`, `name`,
            `trainable` and `add_variable_fn`. `"mean_field"`: independent normal entries.
            `"deterministic"`: a single point. `"multivariate_normal"`: normal with all
            covariances, for small kernels. Defaults to `"mean_field"`.
        kernel_posterior_tensor_fn: What the layer computes with: `"sample"`, a draw, or a function
            of the distribution. Defaults to `"sample"`.
        kernel_prior_fn: The prior of the kernel: a name, a function as above, or a
            `tfd.Distribution` of a single number, which all entries have. `"standard_normal"`:
            mean 0 and standard deviation 1. `"trainable"`: normal, with one mean and one standard
            deviation for all entries, trained with the posterior. `"scale_mixture"`: half of
            standard deviation 1 and half of exp(-6) (Blundell et al., 2015). `None`: no prior and
            no divergence. Defaults to `"standard_normal"`.
        kernel_divergence_fn: Function of posterior, prior and draw that returns their divergence,
            a scalar; `None` for none. `"kl_divergence"` is exact where a closed form is known,
            and else an estimate at the draw. Defaults to `"kl_divergence"`.
        bias_posterior_fn: As `kernel_posterior_fn`, of the bias; `None` for no bias. Defaults to
            `"deterministic"`.
        bias_posterior_tensor_fn: As `kernel_posterior_tensor_fn`. Defaults to `"sample"`.
        bias_prior_fn: As `kernel_prior_fn`. Defaults to `None`.
        bias_divergence_fn: As `kernel_divergence_fn`. Defaults to `"kl_divergence"`.
        kl_weight: Multiplies the divergence before it is added to the loss. `"auto"` is one
            divided by the number of training rows, which `fit` finds, so that a loss that is a mean
            over rows becomes the negative evidence lower bound of a row. A number is taken as it
            is. `None` means 1 as in `tfp.layers`, whose name the layer has; `fit` warns of it if
            the loss is a mean over rows. Defaults to `None`.
        posterior: String, name of the posterior of both kernel and bias, in place of
            `kernel_posterior_fn` and `bias_posterior_fn`. Defaults to `None`.
        prior: Name or distribution, the prior of both, in place of `kernel_prior_fn` and
            `bias_prior_fn`. Defaults to `None`.
        seed: Integer seed of the draws. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name`.

    Input shape:
        `(batch_size, ..., input_dim)`.

    Output shape:
        `(batch_size, ..., units)`.

    Raises:
        ValueError: If a name is unknown; when built, if a function does not return a distribution
            of the shape of the weight; when trained, if `kl_weight="auto"` and the
            number of rows is unknown.

    {example}
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        inputs = as_floats(self, inputs)
        outputs = ops.matmul(inputs, ops.cast(self.draw_kernel(), inputs.dtype))
        return self.finish(outputs, training)
