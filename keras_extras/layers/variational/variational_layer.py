"""VariationalLayer: the base of layers whose kernel and bias have a distribution."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_seed
from keras_extras._core.distribution_kinds import entries_of
from keras_extras._core.functions import serialize_function
from keras_extras._core.probability import require_probability, stateless_seed, tfd
from keras_extras.layers.prior_config import serialize_prior
from keras_extras.layers.variational.kl_weight import KLWeightMixin, check_kl_weight
from keras_extras.layers.variational.noise import draw_standard_normal
from keras_extras.layers.variational.random_weight import (
    check_divergence_fn,
    check_posterior,
    check_prior,
    check_tensor_fn,
    make_random_weight,
)
from keras_extras.layers.variational.weight_divergence import (
    EXACT,
    closed_form,
    estimate,
    normal_entries,
)

# Of layers whose weights have a distribution, for their docstrings.
WEIGHT_ARGUMENTS = """
    activation, activity_regularizer: As in `keras.layers.Dense`.
    kernel_posterior_fn, kernel_posterior_tensor_fn: The posterior of the kernel and the tensor
        computed with, as in `DenseReparameterization`.
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
    """


class VariationalLayer(KLWeightMixin, keras.layers.Layer):
    """A layer that draws its kernel and its bias from posteriors.

    A child builds the distributions with `build_weights`, computes its outputs from
    `self.kernel_posterior` and hands them to `finish`, which adds bias and activation. The
    divergences from the priors are penalties of the weights, as Keras' weight regularizers are:
    each is added once to the losses of a step, however often the layer is called in it.
    """

    # Flipout and local reparameterization compute with the location and scale of normal entries.
    needs_normal_kernel = False

    def __init__(
        self,
        *,
        activation: Any,
        activity_regularizer: Any,
        kernel_posterior_fn: Any,
        kernel_posterior_tensor_fn: Any,
        kernel_prior_fn: Any,
        kernel_divergence_fn: Any,
        bias_posterior_fn: Any,
        bias_posterior_tensor_fn: Any,
        bias_prior_fn: Any,
        bias_divergence_fn: Any,
        kl_weight: Any,
        posterior: str | None,
        prior: Any,
        seed: int | None,
        **kwargs: Any,
    ):
        require_probability()
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.activation = keras.activations.get(activation)
        if posterior is not None:
            kernel_posterior_fn = bias_posterior_fn = check_posterior("posterior", posterior)
        if prior is not None:
            kernel_prior_fn = bias_prior_fn = check_prior("prior", prior)
        self.kernel_posterior_fn = check_posterior("kernel_posterior_fn", kernel_posterior_fn)
        self.kernel_posterior_tensor_fn = check_tensor_fn(
            "kernel_posterior_tensor_fn", kernel_posterior_tensor_fn
        )
        self.kernel_prior_fn = check_prior("kernel_prior_fn", kernel_prior_fn)
        self.kernel_divergence_fn = check_divergence_fn(
            "kernel_divergence_fn", kernel_divergence_fn
        )
        self.bias_posterior_fn = check_posterior("bias_posterior_fn", bias_posterior_fn)
        self.bias_posterior_tensor_fn = check_tensor_fn(
            "bias_posterior_tensor_fn", bias_posterior_tensor_fn
        )
        self.bias_prior_fn = check_prior("bias_prior_fn", bias_prior_fn)
        self.bias_divergence_fn = check_divergence_fn("bias_divergence_fn", bias_divergence_fn)
        self.kl_weight = check_kl_weight(kl_weight)
        self.seed = check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.supports_masking = True

    @property
    def adds_full_divergence(self) -> bool:
        # A function of the user's may scale the divergence itself, as is usual with `tfp.layers`.
        of_kernel = self.kernel_prior_fn is not None and self.kernel_divergence_fn == EXACT
        of_bias = self.bias_prior_fn is not None and self.bias_divergence_fn == EXACT
        return (of_kernel or of_bias) and super().adds_full_divergence

    def build_weights(self, kernel_shape: tuple[int, ...], bias_shape: tuple[int, ...]) -> None:
        """Makes posteriors and priors of kernel and bias."""
        kernel = make_random_weight(
            self, "kernel", kernel_shape, self.kernel_posterior_fn, self.kernel_prior_fn
        )
        bias = make_random_weight(
            self, "bias", bias_shape, self.bias_posterior_fn, self.bias_prior_fn
        )
        self.kernel_posterior, self.kernel_prior = kernel.posterior, kernel.prior
        self.bias_posterior, self.bias_prior = bias.posterior, bias.prior
        if self.needs_normal_kernel and normal_entries(self.kernel_posterior) is None:
            raise ValueError(
                f"{type(self).__name__} needs a kernel whose entries are independent and normal, "
                "such as kernel_posterior_fn='mean_field'. For any other use "
                "`DenseReparameterization` or a convolution with `Reparameterization`. "
                f"Received: {self.kernel_posterior}"
            )
        self._build_kl_weight()
        self._penalize(kernel, self.kernel_divergence_fn, self.kernel_posterior_tensor_fn)
        self._penalize(bias, self.bias_divergence_fn, self.bias_posterior_tensor_fn)

    def _penalize(self, weight, divergence_fn, tensor_fn):
        if weight.prior is not None and divergence_fn is not None:
            divergence = functools.partial(self._divergence, weight, divergence_fn, tensor_fn)
            self._count_divergence(weight.variables, divergence)

    def _divergence(self, weight, divergence_fn, tensor_fn):
        """The weighted divergence of one weight."""
        posterior = self.computed(weight.posterior)
        if divergence_fn == EXACT:
            value = closed_form(posterior, weight.prior)
            if value is not None:
                return self._weighted(value)
            divergence_fn = estimate
        drawn = self.draw(posterior, tensor_fn)
        return self._weighted(ops.convert_to_tensor(divergence_fn(posterior, weight.prior, drawn)))

    def draw_kernel(self) -> Any:
        """Returns a draw of the kernel, or what the user's function makes of its posterior."""
        return self.draw(self.computed(self.kernel_posterior), self.kernel_posterior_tensor_fn)

    def draw_noise(self) -> tuple[Any, Any]:
        """Returns the location of a normal kernel, and a draw of what is added to it."""
        entries = normal_entries(self.computed(self.kernel_posterior))
        centered = tfd.Normal(ops.zeros_like(entries.loc), entries.scale)
        noise = tfd.Independent(centered, len(self.kernel_posterior.event_shape))
        return entries.loc, self.draw(noise, self.kernel_posterior_tensor_fn)

    def computed(self, distribution: Any) -> Any:
        """Returns the distribution with its scale computed once, not at every use."""
        entries = normal_entries(distribution)
        if entries is None:
            return distribution
        loc, scale = (ops.convert_to_tensor(value) for value in (entries.loc, entries.scale))
        return tfd.Independent(tfd.Normal(loc, scale), len(distribution.event_shape))

    def draw(self, distribution: Any, tensor_fn: str | Callable) -> Any:
        """Returns a draw, or what the user's function makes of the distribution."""
        if not isinstance(tensor_fn, str):
            return ops.convert_to_tensor(tensor_fn(distribution))
        entries = entries_of(distribution)
        if not isinstance(entries, tfd.Normal):
            return distribution.sample(seed=stateless_seed(self.seed_generator))
        return entries.loc + entries.scale * draw_standard_normal(
            entries.scale, self.seed_generator
        )

    def finish(self, outputs: Any, training: bool | None) -> Any:
        """Adds the bias and applies the activation.

        Args:
            outputs: Tensor, the product of kernel and inputs.
            training: Boolean or None, of the layer's call.
        """
        self._check_training_set_size(training)
        self._update_divergences()
        if self.bias_posterior is not None:
            posterior = self.computed(self.bias_posterior)
            bias = self.draw(posterior, self.bias_posterior_tensor_fn)
            outputs = self.add_bias(outputs, ops.cast(bias, outputs.dtype))
        return self.activation(outputs)

    def add_bias(self, outputs: Any, bias: Any) -> Any:
        return outputs + bias

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "kernel_posterior_fn": serialize_prior(self.kernel_posterior_fn, self.name),
            "kernel_posterior_tensor_fn": serialize_function(
                self.kernel_posterior_tensor_fn, self.name
            ),
            "kernel_prior_fn": serialize_prior(self.kernel_prior_fn, self.name),
            "kernel_divergence_fn": serialize_function(self.kernel_divergence_fn, self.name),
            "bias_posterior_fn": serialize_prior(self.bias_posterior_fn, self.name),
            "bias_posterior_tensor_fn": serialize_function(
                self.bias_posterior_tensor_fn, self.name
            ),
            "bias_prior_fn": serialize_prior(self.bias_prior_fn, self.name),
            "bias_divergence_fn": serialize_function(self.bias_divergence_fn, self.name),
            "kl_weight": self.kl_weight,
            "posterior": None,  # As the next, another word for arguments above.
            "prior": None,
            "seed": self.seed,
        }
