"""DenseVariational: posterior and prior of all weights of a dense layer together."""

import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import check_choice, check_flag, check_integer, check_seed
from keras_extras._core.compile_time import at_compile_time
from keras_extras._core.distribution_kinds import tensor_of, unwrap
from keras_extras._core.probability import require_probability, stateless_seed, tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.prior_config import deserialize_prior, serialize_prior
from keras_extras.layers.variational.float_inputs import as_floats
from keras_extras.layers.variational.kl_weight import KLWeightMixin, check_kl_weight
from keras_extras.layers.variational.ready_made import POSTERIORS, PRIORS, make_distribution
from keras_extras.layers.variational.weight_divergence import closed_form, estimate


@serializable
class DenseVariational(KLWeightMixin, keras.layers.Layer):
    """A dense layer whose kernel and bias have one posterior and one prior, perhaps given inputs.

    ```
    (kernel, bias) ~ q;  outputs = activation(inputs @ kernel + bias)
    loss += kl_weight * KL(q, p)
    ```

    The divergence is summed over all weights.

    Args:
        units: Integer, the length of the outputs' last axis.
        make_posterior_fn: Function of `kernel_size`, `bias_size` and `dtype` that returns a layer
            or model; called with the inputs, this returns the posterior of
            `kernel_size + bias_size` weights. Or the name of a ready-made one: `"mean_field"`,
            `"deterministic"` or `"multivariate_normal"`, as in `DenseReparameterization`. `None`
            means `"mean_field"`. Defaults to `None`.
        make_prior_fn: The same of the prior, or `"standard_normal"`, `"trainable"` or
            `"scale_mixture"`, or a `tfd.Distribution` of a single number, which all weights have.
            `None` means `"standard_normal"`. Defaults to `None`.
        kl_weight: Multiplies the divergence: `"auto"` for one divided by the number of training
            rows, which a mean loss needs; a number; or `None` for 1, as in
            `DenseReparameterization`. Defaults to `None`.
        kl_use_exact: Boolean, whether to use the closed form of the divergence, or its estimate
            at the draw. Defaults to `False`.
        activation: Activation function of the output. Defaults to `None`.
        use_bias: Boolean, whether there is a bias. Defaults to `True`.
        activity_regularizer: Regularizer of the output. Defaults to `None`.
        posterior: Another word for `make_posterior_fn`, as in the other layers. Defaults to
            `None`.
        prior: Another word for `make_prior_fn`. Defaults to `None`.
        seed: Integer seed of the draws of ready-made posteriors. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name`.

    Input shape:
        `(batch_size, ..., input_dim)`.

    Output shape:
        `(batch_size, ..., units)`.

    Raises:
        ValueError: If a name is unknown, or an argument is given under both words; when called,
            if the posterior or the prior has another size than the weights; when trained, if
            `kl_weight="auto"` and the number of rows is unknown.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import layers

    model = keras.Sequential([
        layers.DenseVariational(2, posterior="mean_field", prior="trainable", kl_weight="auto"),
        layers.IndependentNormal(1),
    ])
    model.compile("adam", loss=lambda y, rv_y: -rv_y.log_prob(y))
    x = np.linspace(-1.0, 1.0, 64)[:, None]
    model.fit(x, 2.0 * x, epochs=2, verbose=0)
    ```
    """

    def __init__(
        self,
        units: int,
        make_posterior_fn: str | Callable | None = None,
        make_prior_fn: Any = None,
        kl_weight: str | float | None = None,
        kl_use_exact: bool = False,
        activation: Any = None,
        use_bias: bool = True,
        activity_regularizer: Any = None,
        posterior: str | Callable | None = None,
        prior: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        require_probability()
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = check_integer("units", units)
        self.make_posterior_fn = _one_of("make_posterior_fn", make_posterior_fn, posterior)
        self.make_prior_fn = _one_of("make_prior_fn", make_prior_fn, prior)
        self.kl_weight = check_kl_weight(kl_weight)
        self.kl_use_exact = check_flag("kl_use_exact", kl_use_exact)
        self.activation = keras.activations.get(activation)
        self.use_bias = check_flag("use_bias", use_bias)
        self.seed = check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = input_shape[-1]
        if width is None:
            raise ValueError(
                f"Layer {self.name!r} needs inputs whose last axis has a known length. "
                f"Received: input_shape={input_shape}"
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: width})
        self._kernel_size = width * self.units
        bias_size = self.units if self.use_bias else 0
        self._num_weights = self._kernel_size + bias_size
        # Constants must outlive the graph of a build; variables keep their precision.
        variables: list[keras.Variable] = []
        with at_compile_time():
            self.posterior = self._make("posterior", self.make_posterior_fn, bias_size, variables)
            self.prior = self._make("prior", self.make_prior_fn, bias_size, variables)
        self._build_kl_weight()
        self._added_losses = ()
        with at_compile_time():
            self._row = ops.zeros([length or 1 for length in input_shape], self.compute_dtype)
            self._ignores_inputs = self._are_equal_for(self._row, self._row + 1.0)
        if self._ignores_inputs:
            for part in (self.posterior, self.prior):
                if isinstance(part, keras.layers.Layer):
                    variables += part.trainable_variables
            self._count_divergence(variables, self._divergence_of_weights)

    def _are_equal_for(self, one, other):
        """Whether posterior and prior do not depend on inputs, as far as two of them show."""
        for kind in ("posterior", "prior"):
            if isinstance(getattr(self, kind), tfd.Distribution):
                continue
            made = [unwrap(self._distribution(kind, inputs)) for inputs in (one, other)]
            if any(distribution.batch_shape.rank != 0 for distribution in made):
                return False
            point = made[0].sample(seed=stateless_seed(keras.random.SeedGenerator(0)))
            if not np.array_equal(made[0].log_prob(point), made[1].log_prob(point)):
                return False
        return True

    def _divergence_of_weights(self):
        posterior, prior = (self._distribution(kind, self._row) for kind in ("posterior", "prior"))
        return self._weighted(self._divergence(posterior, prior, None))

    def _divergence(self, posterior, prior, weights):
        """The divergence, in closed form or at weights, which are drawn unless they are given."""
        value = closed_form(unwrap(posterior), unwrap(prior)) if self.kl_use_exact else None
        if value is None:
            weights = self._draw(posterior) if weights is None else weights
            value = estimate(unwrap(posterior), unwrap(prior), weights)
        return value

    def _make(self, kind, choice, bias_size, variables):
        """A distribution, or the user's layer that makes one of the inputs."""

        def add_variable(**arguments):
            variables.append(self.add_weight(autocast=False, **arguments))
            return variables[-1]

        dtype = keras.backend.result_type(self.variable_dtype, "float32")
        if isinstance(choice, str | tfd.Distribution):
            return make_distribution(
                choice,
                POSTERIORS if kind == "posterior" else PRIORS,
                f"make_{kind}_fn",
                dtype,
                (self._num_weights,),
                kind,
                True,
                add_variable,
            )
        return choice(self._kernel_size, bias_size, dtype)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        inputs = as_floats(self, inputs)
        posterior = self._distribution("posterior", inputs)
        prior = self._distribution("prior", inputs)
        weights = self._draw(posterior)
        self._check_training_set_size(training)
        if self._ignores_inputs:
            self._update_divergences()
        else:
            self._add_divergence(posterior, prior, weights)
        weights = ops.cast(weights, inputs.dtype)
        width = self._kernel_size // self.units
        shape = (*ops.shape(weights)[:-1], width, self.units)
        kernel = ops.reshape(weights[..., : self._kernel_size], shape)
        if len(weights.shape) > 1:  # A kernel for each row.
            outputs = ops.squeeze(ops.matmul(inputs[..., None, :], kernel), axis=-2)
        else:
            outputs = ops.matmul(inputs, kernel)
        if self.use_bias:
            outputs += weights[..., self._kernel_size :]
        return self.activation(outputs)

    def _draw(self, posterior):
        if hasattr(posterior, "tensor_distribution"):
            return tensor_of(posterior)
        return posterior.sample(seed=stateless_seed(self.seed_generator))

    def _add_divergence(self, posterior, prior, weights):
        """Raises or lowers what the losses hold to the mean over the calls of this step."""
        value = self._weighted(ops.mean(self._divergence(posterior, prior, weights)))
        earlier = [v for v in self.losses if any(v is loss() for loss in self._added_losses)]
        loss = (value - sum(earlier)) / (len(earlier) + 1)
        self.add_loss(loss)
        self._added_losses = tuple(map(weakref.ref, [*earlier, loss]))

    def _distribution(self, kind, inputs):
        distribution = getattr(self, kind)
        if not isinstance(distribution, tfd.Distribution):
            distribution = distribution(inputs)
        if not isinstance(distribution, tfd.Distribution) or (
            distribution.event_shape.rank != 1 or distribution.event_shape[0] != self._num_weights
        ):
            raise ValueError(
                f"`make_{kind}_fn` of layer {self.name!r} must make a distribution of event shape "
                f"({self._num_weights},), {self._kernel_size} for the kernel and "
                f"{self._num_weights - self._kernel_size} for the bias. Received: {distribution}"
            )
        return distribution

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        choices = {}
        for name in ("make_posterior_fn", "make_prior_fn"):
            choice = getattr(self, name)
            choices[name] = (
                choice if isinstance(choice, str) else serialize_prior(choice, self.name)
            )
        return {
            **super().get_config(),
            "units": self.units,
            **choices,
            "kl_weight": self.kl_weight,
            "kl_use_exact": self.kl_use_exact,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "posterior": None,  # As the next, another word for arguments above.
            "prior": None,
            "seed": self.seed,
        }


_READY_MADE = {"make_posterior_fn": POSTERIORS, "make_prior_fn": PRIORS}
_DEFAULTS = {"make_posterior_fn": "mean_field", "make_prior_fn": "standard_normal"}


def _one_of(name, value, by_other_word):
    """The value that is given under either word, or the default."""
    word = name.removeprefix("make_").removesuffix("_fn")
    if value is not None and by_other_word is not None:
        raise ValueError(
            f"`{name}` and `{word}` are two words for one argument. Received: {name}={value!r}, "
            f"{word}={by_other_word!r}"
        )
    given = name if by_other_word is None else word
    value = deserialize_prior(value if value is not None else by_other_word)
    value = _DEFAULTS[name] if value is None else value
    if isinstance(value, str):
        return check_choice(given, value, _READY_MADE[name])
    is_fixed_prior = name == "make_prior_fn" and isinstance(value, tfd.Distribution)
    if not (callable(value) or is_fixed_prior):
        raise TypeError(
            f"`{given}` must be a function, or one of "
            f"{', '.join(map(repr, _READY_MADE[name]))}. Received: {given}={value!r}"
        )
    return value
