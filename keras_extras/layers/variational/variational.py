"""Variational: uncertain weights for any Keras layer."""

import inspect
from typing import Any

import keras

from keras_extras._core.backend import require_tensorflow_or_jax
from keras_extras._core.checks import check_choice, check_number, check_seed
from keras_extras._core.model_function import evaluate
from keras_extras._core.path_patterns import by_pattern, match_patterns
from keras_extras._core.registration import serializable
from keras_extras._seams.layers_within import layers_within
from keras_extras.layers.prior_config import serialize_prior
from keras_extras.layers.variational.kl_weight import KLWeightMixin, check_kl_weight
from keras_extras.layers.variational.uncertain_weight import POSTERIORS, UncertainWeight
from keras_extras.layers.variational.weight_prior import check_prior_choice
from keras_extras.layers.variational_gaussian_process import VariationalGaussianProcess


@serializable
class Variational(KLWeightMixin, keras.layers.Wrapper):
    """A layer or model around another, whose weights it draws at each call.

    ```
    w ~ q = N(loc, scale^2);  outputs = layer(inputs) with the weights w
    loss += kl_weight * sum over weights of KL(q(w), p(w))
    ```

    All weights are drawn once for a call, whatever the layer does with them: a recurrent layer
    computes all time steps with one draw, and a whole model all of its layers. A draw is location +
    scale * noise, through which gradients flow. The wrapped layer's own weights are the locations,
    so the posterior starts at them, and each weight is trained once. What the layer takes,
    returns, masks, assigns and adds to the loss passes through; its weight regularizers
    penalize the locations.

    Draws and divergences are those of `DenseReparameterization`: a `Variational(Dense)` with the
    same parameters and seed computes the same. Every call draws, also that of `predict`:
    `keras_extras.predict_distribution` averages over many draws. The divergence counts once in
    a step, however often the layer is called.

    References:
        Blundell et al. (2015), "Weight uncertainty in neural networks",
        [arXiv:1505.05424](https://arxiv.org/abs/1505.05424); for `prior="pretrained"` Krishnan et
        al. (2020), "Specifying weight priors in Bayesian deep neural networks with empirical
        Bayes", [arXiv:1906.05323](https://arxiv.org/abs/1906.05323).

    Args:
        layer: A `keras.layers.Layer` or a whole model, with weights.
        posterior: The posterior of weights: `"mean_field"`, independent normal entries;
            `"deterministic"`, the single point that the weight is, whose divergence is minus the
            logarithm of the prior's density; or a dict from patterns of weight paths to these
            names. A pattern is matched as in `fnmatch` with the path of a weight, or with its end,
            and the first that matches counts: `{"*/kernel": "mean_field"}` leaves biases as they
            are. Weights that no pattern matches stay as in the plain layer, trained and without
            divergence. Defaults to `"mean_field"`.
        prior: The prior of the weights that have a posterior: `"standard_normal"`: mean 0 and
            standard deviation 1. `"pretrained"`: mean at the layer's weights when it is built,
            standard deviation 1. `"trainable"`: normal, with one mean and one standard deviation
            for all entries of a weight, trained with the posterior. `"scale_mixture"`: half of
            standard deviation 1 and half of exp(-6), of which the divergence is estimated at a
            draw. Or a `tfd.Distribution` of a single number; or a dict from patterns to any of
            these, with one for each weight. Defaults to `"standard_normal"`.
        kl_weight: Multiplies the divergence: `"auto"` for one divided by the number of training
            rows, which a mean loss needs; a number; or `None` for 1, as in
            `DenseReparameterization`. Defaults to `"auto"`.
        initial_stddev: Number, the standard deviation that posteriors start with. `None` means
            0.05, and of weights with the prior `"pretrained"` a tenth of the weight, at least
            0.001. Defaults to `None`.
        seed: Integer seed of the draws. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name`. The dtype policy is that of the wrapped
            layer.

    Call arguments:
        Those of the wrapped layer.

    Output shape:
        That of the wrapped layer.

    Raises:
        TypeError: If `layer` is not a Keras layer, or a posterior or prior is of a wrong type.
        ValueError: If a name is unknown or the layer has uncertain weights already; when
            built, if the layer has no trainable weights, or a pattern matches none; when trained,
            if `kl_weight="auto"` and the number of rows is unknown.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import layers

    model = keras.Sequential([
        keras.Input((12, 1)),
        layers.Variational(keras.layers.LSTM(8), posterior={"*kernel": "mean_field"}),
        layers.Variational(keras.layers.Dense(1)),
    ])
    model.compile("adam", "mse")
    x = np.sin(np.arange(64 * 12).reshape(64, 12, 1))
    model.fit(x, x[:, -1], epochs=2, verbose=0)
    ```
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        posterior: str | dict[str, str | None] = "mean_field",
        prior: Any = "standard_normal",
        kl_weight: str | float | None = "auto",
        initial_stddev: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        require_tensorflow_or_jax("keras_extras.layers.Variational")
        _check_layer(layer)
        # Keras reads the arguments and the masks that a layer takes off the signature of `call`.
        self.call = _with_signature_of(layer, self._call_with_draws)
        # Without casts: inputs reach the layer, and draws the weights, in full precision.
        kwargs = {**kwargs, "autocast": False, "dtype": layer.variable_dtype}
        super().__init__(layer, **kwargs)
        self.posterior = _check_posterior(posterior)
        self.prior = _by_pattern(prior, check_prior_choice)
        self.kl_weight = check_kl_weight(kl_weight)
        self.initial_stddev = (
            None
            if initial_stddev is None
            else check_number("initial_stddev", initial_stddev, above=0.0)
        )
        self.seed = check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.supports_masking = layer.supports_masking
        self.supports_jit = layer.supports_jit
        self._uncertain: list[UncertainWeight] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._uncertain is None:
            with keras.name_scope(self.name):
                self._build_by_call(*args, **kwargs)
            self.build()
        return super().__call__(*args, **kwargs)

    def build(self, *shapes: Any, **named_shapes: Any) -> None:
        if shapes or named_shapes:
            self._build_layer(*shapes, **named_shapes)
        weights = _trained_weights(self.layer)
        if not weights:
            raise ValueError(
                "`Variational` needs a layer with trainable weights. "
                f"Received: layer={self.layer.name!r} of type {type(self.layer).__name__}, "
                "which has none"
            )
        posteriors = _choices("posterior", self.posterior, weights)
        chosen = [pair for pair in zip(weights, posteriors) if pair[1] is not None]
        priors = by_pattern("prior", self.prior, [weight for weight, _ in chosen])
        self._build_kl_weight()
        self._uncertain = [
            UncertainWeight(
                self, weight, self._name_of(weight), posterior, prior, self.initial_stddev
            )
            for (weight, posterior), prior in zip(chosen, priors)
        ]
        for weight in self._uncertain:
            self._count_divergence(
                weight.variables,
                lambda weight=weight: self._weighted(weight.divergence(self.seed_generator)),
            )

    def _build_layer(self, *shapes, **named_shapes):
        unbuilt = [one for one in layers_within(self.layer) if not one.built]
        if unbuilt == [self.layer]:
            self.layer.build(*shapes, **named_shapes)
        elif unbuilt:
            named = {k.removesuffix("_shape"): shape for k, shape in named_shapes.items()}
            args, kwargs = keras.tree.map_shape_structure(keras.KerasTensor, (shapes, named))
            self._build_by_call(*args, **kwargs)

    def _build_by_call(self, *args, **kwargs):
        """Builds the layer as Keras would, whatever arguments it takes, by a call with symbols."""
        if not _is_built(self.layer):
            args, kwargs = keras.tree.map_structure(_symbol, (args, kwargs))
            self.layer(*args, **_known_to(self.layer, kwargs))

    def _name_of(self, weight):
        """Returns the prefix that makes the names of a weight's variables unique."""
        return weight.path.rpartition(f"{self.layer.name}/")[2].replace("/", "_")

    def reset_posterior(self) -> None:
        """Starts the posterior at the present weights of the wrapped layer again.

        Standard deviations are as at first, and priors `"pretrained"` are centered on the weights.
        For weights that the layer gets after it is built.
        """
        if self._uncertain is None:
            raise ValueError(
                f"Layer {self.name!r} has no posterior before it is built: call it on data first."
            )
        for weight in self._uncertain:
            weight.restart()

    def _call_with_draws(self, *args, **kwargs):
        training = inspect.signature(self.call).bind(*args, **kwargs).arguments.get("training")
        kwargs = _known_to(self.layer, kwargs)
        self._check_training_set_size(training)
        self._update_divergences()
        draws = [(w.variable, w.draw(self.seed_generator)) for w in self._uncertain if w.is_random]
        found = evaluate(
            self.layer,
            args,
            training=None,
            state=draws,
            penalties=False,
            call=lambda args: self.layer(*args, **kwargs),
            untracked=_recurrent_states(self.layer),
        )
        for variable, value in found.assigned:
            variable.assign(value)
        for loss in found.added:
            self.add_loss(loss)
        return found.outputs

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_spec(*args, **_known_to(self.layer, kwargs))

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_shape(*args, **kwargs)

    def get_build_config(self) -> dict[str, Any] | None:
        return self.layer.get_build_config()

    def build_from_config(self, config: dict[str, Any]) -> None:
        if not self.layer.built:
            with keras.name_scope(self.name):
                self.layer.build_from_config(config)
        if _is_built(self.layer):
            self.build()

    def get_config(self) -> dict[str, Any]:
        prior = self.prior if isinstance(self.prior, dict) else {"*": self.prior}
        prior = {
            pattern: choice if isinstance(choice, str) else serialize_prior(choice, self.name)
            for pattern, choice in prior.items()
        }
        config = super().get_config()
        del config["dtype"]
        return {
            **config,
            "posterior": self.posterior,
            "prior": prior if isinstance(self.prior, dict) else prior["*"],
            "kl_weight": self.kl_weight,
            "initial_stddev": self.initial_stddev,
            "seed": self.seed,
        }


def is_bayesian(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer of ours has uncertain weights, itself or in a layer within."""
    ours = (KLWeightMixin, VariationalGaussianProcess)
    return any(isinstance(one, ours) for one in layers_within(layer))


def _check_layer(layer):
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            "`layer` must be a Keras layer or model, such as `keras.layers.LSTM(8)`. "
            f"Received: layer={layer!r}"
        )
    if is_bayesian(layer):
        raise ValueError(
            "`layer` must have plain weights; Bayesian layers have a posterior already. "
            f"Received: layer={layer.name!r} of type {type(layer).__name__}"
        )


def _check_posterior(posterior):
    def check(choice):
        return check_choice("posterior", choice, POSTERIORS)

    if isinstance(posterior, dict):
        return _by_pattern(posterior, lambda choice: choice and check(choice))
    if not isinstance(posterior, str):
        raise TypeError(
            f"`posterior` must be one of {', '.join(map(repr, POSTERIORS))}, or a dict from "
            f"patterns of weight paths to these. Received: posterior={posterior!r}"
        )
    return check(posterior)


def _by_pattern(choice, check):
    """Checks an argument, which is a choice for all weights or one for each pattern."""
    is_config = isinstance(choice, dict) and "distribution" in choice
    if isinstance(choice, dict) and not is_config:
        return {pattern: check(one) for pattern, one in choice.items()}
    return check(choice)


def _choices(name, choice, weights):
    if isinstance(choice, dict):
        return match_patterns(name, choice, weights)
    return [choice] * len(weights)


def _with_signature_of(layer, function):
    """The function with the arguments of a layer's `call`, and `training`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    signature = inspect.signature(layer.call)
    parameters = list(signature.parameters.values())
    if "training" not in signature.parameters:
        training = inspect.Parameter("training", inspect.Parameter.KEYWORD_ONLY, default=None)
        ends = [i for i, p in enumerate(parameters) if p.kind is p.VAR_KEYWORD]
        parameters.insert(ends[0] if ends else len(parameters), training)
    call.__signature__ = signature.replace(parameters=parameters)
    return call


def _known_to(layer, kwargs):
    """The keyword arguments without `training` where the layer's `call` does not take it."""
    if "training" in inspect.signature(layer.call).parameters:
        return kwargs
    return {name: value for name, value in kwargs.items() if name != "training"}


def _symbol(value):
    has_shape = hasattr(value, "shape") and hasattr(value, "dtype")
    return keras.KerasTensor(value.shape, value.dtype) if has_shape else value


def _is_built(layer):
    return all(one.built for one in layers_within(layer))


def _recurrent_states(layer):
    """The states of stateful recurrent layers, which Keras leaves out of their variables."""
    states = keras.tree.flatten([getattr(one, "states", None) for one in layers_within(layer)])
    return [state for state in states if isinstance(state, keras.Variable)]


def _trained_weights(layer):
    """The weights that are trained; of a frozen layer those that would be."""
    if layer.trainable_weights:
        return layer.trainable_weights
    states = [(one, one.trainable) for one in (*layers_within(layer), *layer.weights)]
    layer.trainable = True
    weights = layer.trainable_weights
    for one, trainable in states:
        one.trainable = trainable
    return weights
