"""VariationalLayer: the base of layers whose kernel and bias have a distribution."""

import functools
from collections.abc import Callable
from typing import Any

import keras

from keras_extras._core.checks import check_choice, check_seed
from keras_extras._core.distribution_kinds import entries_of
from keras_extras._core.functions import deserialize_function, serialize_function
from keras_extras._core.probability import require_probability, stateless_seed, tf, tfd
from keras_extras.layers.prior_config import deserialize_prior, serialize_prior
from keras_extras.layers.variational.kl_weight import KLWeightMixin, check_kl_weight
from keras_extras.layers.variational.noise import standard_normal
from keras_extras.layers.variational.ready_made import POSTERIORS, PRIORS, make_distribution
from keras_extras.layers.variational.weight_divergence import (
    closed_form,
    estimate,
    normal_entries,
)

_DISTRIBUTIONS = {
    "kernel_posterior_fn": POSTERIORS,
    "kernel_prior_fn": PRIORS,
    "bias_posterior_fn": POSTERIORS,
    "bias_prior_fn": PRIORS,
}
_FUNCTIONS = {
    "kernel_posterior_tensor_fn": "sample",
    "kernel_divergence_fn": "kl_divergence",
    "bias_posterior_tensor_fn": "sample",
    "bias_divergence_fn": "kl_divergence",
}

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
        activation: Any = None,
        activity_regularizer: Any = None,
        kernel_posterior_fn: Any = "mean_field",
        kernel_posterior_tensor_fn: Any = "sample",
        kernel_prior_fn: Any = "standard_normal",
        kernel_divergence_fn: Any = "kl_divergence",
        bias_posterior_fn: Any = "deterministic",
        bias_posterior_tensor_fn: Any = "sample",
        bias_prior_fn: Any = None,
        bias_divergence_fn: Any = "kl_divergence",
        kl_weight: Any = None,
        posterior: str | None = None,
        prior: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        require_probability()
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.activation = keras.activations.get(activation)
        choices = {
            "kernel_posterior_fn": kernel_posterior_fn,
            "kernel_prior_fn": kernel_prior_fn,
            "bias_posterior_fn": bias_posterior_fn,
            "bias_prior_fn": bias_prior_fn,
        }
        of_both = {"posterior": posterior, "prior": prior}
        for name, choice in choices.items():
            kind = name.split("_")[1]
            given = (name, choice) if of_both[kind] is None else (kind, of_both[kind])
            setattr(self, name, _check_distribution(*given, _DISTRIBUTIONS[name]))
        functions = {
            "kernel_posterior_tensor_fn": kernel_posterior_tensor_fn,
            "kernel_divergence_fn": kernel_divergence_fn,
            "bias_posterior_tensor_fn": bias_posterior_tensor_fn,
            "bias_divergence_fn": bias_divergence_fn,
        }
        for name, function in functions.items():
            setattr(self, name, _check_function(name, function))
        self.kl_weight = check_kl_weight(kl_weight)
        self.seed = check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.supports_masking = True

    @property
    def adds_full_divergence(self) -> bool:
        # A function of the user's may scale the divergence itself, as is usual with `tfp.layers`.
        is_ready_made = any(
            getattr(self, f"{weight}_prior_fn") is not None
            and getattr(self, f"{weight}_divergence_fn") == "kl_divergence"
            for weight in ("kernel", "bias")
        )
        return is_ready_made and super().adds_full_divergence

    def build_weights(self, kernel_shape: tuple[int, ...], bias_shape: tuple[int, ...]) -> None:
        """Makes posteriors and priors of kernel and bias."""
        shapes = {"kernel": kernel_shape, "bias": bias_shape}
        dtype = keras.backend.result_type(self.variable_dtype, "float32")
        variables: dict[str, list[keras.Variable]] = {"kernel": [], "bias": []}

        def add_variable_of(weight, **arguments):
            variables[weight].append(self.add_weight(autocast=False, **arguments))
            return variables[weight][-1]

        for name, ready_made in _DISTRIBUTIONS.items():
            weight, kind, _ = name.split("_")
            # Constants must outlive the graph of a build; variables keep their precision.
            with tf.init_scope():
                distribution = make_distribution(
                    getattr(self, name),
                    ready_made,
                    name,
                    dtype,
                    shapes[weight],
                    f"{weight}_{kind}",
                    True,
                    functools.partial(add_variable_of, weight),
                )
            setattr(self, f"{weight}_{kind}", distribution)
        if self.needs_normal_kernel and normal_entries(self.kernel_posterior) is None:
            raise ValueError(
                f"{type(self).__name__} needs a kernel whose entries are independent and normal, "
                "such as kernel_posterior_fn='mean_field'. For any other use "
                "`DenseReparameterization` or a convolution with `Reparameterization`. "
                f"Received: {self.kernel_posterior}"
            )
        self._build_kl_weight()
        for weight, made in variables.items():
            has_divergence = getattr(self, f"{weight}_divergence_fn") is not None
            if has_divergence and getattr(self, f"{weight}_prior") is not None:
                self._count_divergence(made, functools.partial(self._divergence, weight))

    def _divergence(self, weight):
        """The weighted divergence of `"kernel"` or `"bias"`."""
        posterior, prior = (getattr(self, f"{weight}_{kind}") for kind in ("posterior", "prior"))
        posterior = self.computed(posterior)
        function = getattr(self, f"{weight}_divergence_fn")
        if function == "kl_divergence":
            value = closed_form(posterior, prior)
            if value is not None:
                return self._weighted(value)
            function = estimate
        drawn = self.draw(posterior, getattr(self, f"{weight}_posterior_tensor_fn"))
        return self._weighted(tf.convert_to_tensor(function(posterior, prior, drawn)))

    def computed(self, distribution: Any) -> Any:
        """Returns the distribution with its scale computed once, not at every use."""
        entries = normal_entries(distribution)
        if entries is None:
            return distribution
        loc, scale = (tf.convert_to_tensor(value) for value in (entries.loc, entries.scale))
        return tfd.Independent(tfd.Normal(loc, scale), len(distribution.event_shape))

    def draw(self, distribution: Any, tensor_fn: str | Callable) -> Any:
        """Returns a draw, or what the user's function makes of the distribution."""
        if not isinstance(tensor_fn, str):
            return tf.convert_to_tensor(tensor_fn(distribution))
        entries = entries_of(distribution)
        if not isinstance(entries, tfd.Normal):
            return distribution.sample(seed=self.next_seed())
        return entries.loc + entries.scale * standard_normal(entries.scale, self.next_seed())

    def next_seed(self) -> Any:
        return stateless_seed(self.seed_generator)

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
            outputs = self.add_bias(outputs, tf.cast(bias, outputs.dtype))
        return self.activation(outputs)

    def add_bias(self, outputs: Any, bias: Any) -> Any:
        return outputs + bias

    def get_config(self) -> dict[str, Any]:
        distributions = {}
        for name in _DISTRIBUTIONS:
            choice = getattr(self, name)
            is_name = choice is None or isinstance(choice, str)
            distributions[name] = choice if is_name else serialize_prior(choice, self.name)
        functions = {}
        for name in _FUNCTIONS:
            choice = getattr(self, name)
            is_name = choice is None or isinstance(choice, str)
            functions[name] = choice if is_name else serialize_function(choice, self.name)
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            **distributions,
            **functions,
            "kl_weight": self.kl_weight,
            "posterior": None,  # As the next, another word for arguments above.
            "prior": None,
            "seed": self.seed,
        }


def _check_distribution(name, choice, ready_made):
    """The name, function or distribution that an argument gives."""
    choice = deserialize_prior(choice)
    if isinstance(choice, str):
        return check_choice(name, choice, ready_made)
    is_fixed = isinstance(choice, tfd.Distribution)
    if (is_fixed and "posterior" in name) or not (choice is None or callable(choice) or is_fixed):
        raise TypeError(
            f"`{name}` must be one of {', '.join(map(repr, ready_made))}, or a function "
            f"like `default_mean_field_normal_fn()`. Received: {name}={choice!r}"
        )
    return choice


def _check_function(name, function):
    function = deserialize_function(function)
    if isinstance(function, str):
        return check_choice(name, function, [_FUNCTIONS[name]])
    if not ((function is None and "divergence" in name) or callable(function)):
        raise TypeError(
            f"`{name}` must be {_FUNCTIONS[name]!r} or a function. Received: {name}={function!r}"
        )
    return function
