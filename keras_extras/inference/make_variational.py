"""make_variational: a trained model with uncertain weights."""

import fnmatch
import glob
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.backend import require_tensorflow_or_jax
from keras_extras._core.path_patterns import by_pattern, match_patterns
from keras_extras._seams.layers_within import layers_within
from keras_extras.layers.variational.variational import Variational, is_bayesian


def make_variational(
    model: keras.Model,
    patterns: str | Sequence[str] | Mapping[str, str | None] | None = None,
    prior: Any = "pretrained",
    kl_weight: str | float | None = "auto",
    initial_stddev: float | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Returns a copy of a trained model whose weights have a distribution around their values.

    Each layer with weights that are chosen is wrapped in `keras_extras.layers.Variational`, under
    its own name; other layers are copied, and a layer that is shared stays so. The posterior starts
    at the weights of the model, which is left as it is. With small standard deviations the copy
    computes what the model does. Train it for a few epochs, then ask
    `keras_extras.predict_distribution`.

    References:
        Krishnan et al. (2020), "Specifying weight priors in Bayesian deep neural networks with
        empirical Bayes", [arXiv:1906.05323](https://arxiv.org/abs/1906.05323).

    Args:
        model: A functional or `Sequential` Keras model, built, with others of these within. Layers
            of a class of your own are wrapped as they are.
        patterns: Which weights get a posterior: a pattern of `variable.path` or a list of
            patterns; or a dict from patterns to posteriors, as of `Variational`. A pattern is
            matched as in `fnmatch` with the path or with its end, as `"*/kernel"`. `None` means all
            trainable weights; layers that are frozen or have uncertain weights already are copied.
            Defaults to `None`.
        prior: The prior of these weights, as of `Variational`; patterns are matched with the paths
            of the model. Defaults to `"pretrained"`, centered on the weights of the model.
        kl_weight: As of `Variational`. Defaults to `"auto"`.
        initial_stddev: As of `Variational`. Defaults to `None`, with the default prior a tenth of
            each weight.
        seed: Integer seed of the draws; layers count on from it. Defaults to `None`.

    Returns:
        A Keras model that is not compiled.

    Raises:
        TypeError: If `model` is not a functional or `Sequential` model, or `patterns` is of a wrong
            type.
        ValueError: If the model is not built or has no trainable weights, or a pattern matches
            none of them.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    model = keras.Sequential([keras.Input((12, 1)), keras.layers.GRU(8), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.sin(np.arange(64 * 12).reshape(64, 12, 1))
    model.fit(x, x[:, -1], epochs=2, verbose=0)

    uncertain = keras_extras.make_variational(model, "*kernel")
    uncertain.compile("adam", "mse")
    uncertain.fit(x, x[:, -1], epochs=2, verbose=0)
    ```
    """
    require_tensorflow_or_jax("keras_extras.make_variational")
    if not _is_sequential_or_functional(model):
        raise TypeError(
            "`model` must be a functional or Sequential Keras model; wrap a model of another class "
            f"as a whole in `keras_extras.layers.Variational(model)`. Received: model={model!r}"
        )
    if not model.built:
        raise ValueError(
            "`model` must be built: give it an Input, or call it on data. "
            f"Received: {model.name!r}, which is not"
        )
    posteriors = _posteriors(model, patterns)
    chosen = [weight for weight in model.trainable_weights if id(weight) in posteriors]
    priors = dict(zip(map(id, chosen), by_pattern("prior", prior, chosen), strict=True))
    arguments = {"kl_weight": kl_weight, "initial_stddev": initial_stddev}
    copies = _Copies(posteriors, priors, arguments, seed)
    custom = {type(one).__name__: type(one) for one in layers_within(model)}
    with keras.saving.custom_object_scope(custom):
        uncertain = copies.copy(model)
    copies.copy_weights()
    return uncertain


def _posteriors(model, patterns):
    """The posterior of each uncertain weight, by the identity of its variable."""
    weights = [
        weight
        for one in layers_within(model)
        if not (_is_sequential_or_functional(one) or is_bayesian(one))
        for weight in one.trainable_weights
    ]
    weights = list({id(weight): weight for weight in weights}.values())
    if not weights:
        raise ValueError(
            "`model` must have trainable weights that are not uncertain yet. "
            f"Received: {model.name!r}, which has none"
        )
    if patterns is None:
        return {id(weight): "mean_field" for weight in weights}
    if isinstance(patterns, str):
        patterns = [patterns]
    if not isinstance(patterns, Mapping):
        if not isinstance(patterns, list | tuple) or not all(isinstance(p, str) for p in patterns):
            raise TypeError(
                "`patterns` must be a pattern of weight paths, a list of them, a dict from them to "
                f"posteriors, or None. Received: patterns={patterns!r}"
            )
        patterns = dict.fromkeys(patterns, "mean_field")
    chosen = zip(weights, match_patterns("patterns", patterns, weights))
    return {id(weight): posterior for weight, posterior in chosen if posterior is not None}


class _Copies:
    """Copies of the layers of a model, made once each."""

    def __init__(self, posteriors, priors, arguments, seed):
        self._posteriors, self._priors = posteriors, priors
        self._arguments = arguments
        self._seed = seed
        self._copies = {}
        self._pairs = []

    def copy(self, layer: Any) -> Any:
        if not isinstance(layer, keras.layers.Layer):
            return layer  # An operation without state.
        if id(layer) not in self._copies:
            self._copies[id(layer)] = self._new(layer)
        return self._copies[id(layer)]

    def _new(self, layer):
        if isinstance(layer, keras.Sequential):
            first = layer.inputs[0]
            inputs = keras.Input(batch_shape=first.shape, dtype=first.dtype, name=first.name)
            return keras.Sequential([inputs, *map(self.copy, layer.layers)], name=layer.name)
        if _is_sequential_or_functional(layer):
            # Without losses and metrics, which are not copied and may not be copyable.
            graph = keras.Model(layer.input, layer.output, name=layer.name)
            return keras.models.clone_model(graph, clone_function=self.copy)
        return self._copy_of_single(layer)

    def _copy_of_single(self, layer):
        copy = _unbuilt_copy(layer)
        wrapped = copy
        posterior = _by_path(layer, self._posteriors, layer.trainable_weights)
        if posterior:
            chosen = [weight for weight in layer.trainable_weights if id(weight) in self._priors]
            prior = _by_path(layer, self._priors, chosen)
            seed = None if self._seed is None else self._seed + len(self._pairs)
            wrapped = Variational(
                copy, posterior, prior, seed=seed, name=layer.name, **self._arguments
            )
        self._pairs.append((layer, wrapped))
        return wrapped

    def copy_weights(self) -> None:
        for layer, copy in self._pairs:
            target = copy.layer if isinstance(copy, Variational) else copy
            for old, new in zip(layer.variables, target.variables, strict=True):
                new.assign(ops.copy(old.value))  # On JAX assigned values share their buffer.
                new.trainable = old.trainable
            if hasattr(target, "finalize_state"):
                target.finalize_state()  # `Normalization` computes with what it makes of weights.
            if isinstance(copy, Variational):
                copy.reset_posterior()


def _unbuilt_copy(layer):
    with warnings.catch_warnings():
        # Of functions that files cannot hold: this one stays in memory.
        warnings.simplefilter("ignore", UserWarning)
        config = keras.saving.serialize_keras_object(layer)
    config.pop("build_config", None)
    return keras.saving.deserialize_keras_object(config, safe_mode=False)


def _by_path(layer, choices, weights):
    """Returns the choices for the weights of a layer as an argument of `Variational`."""
    chosen = [choices.get(id(weight)) for weight in weights]
    if all(choice == chosen[0] for choice in chosen):
        return chosen[0] if chosen else None
    paths = [_path_within(layer, weight) for weight in weights]
    for path in paths:
        if sum(fnmatch.fnmatchcase(f"/{other}", f"*/{glob.escape(path)}") for other in paths) > 1:
            raise ValueError(
                f"The weights of layer {layer.name!r} must have paths that do not end in each "
                f"other, so that patterns can tell them apart. Received: {paths}"
            )
    pairs = zip(paths, chosen)
    return {glob.escape(path): choice for path, choice in pairs if choice is not None}


def _path_within(layer, weight):
    start = f"{layer.path}/"
    is_within = weight.path.startswith(start)
    return f"{layer.name}/{weight.path.removeprefix(start)}" if is_within else weight.path


def _is_sequential_or_functional(layer):
    is_graph = isinstance(layer, keras.Model) and getattr(layer, "inputs", None) is not None
    return isinstance(layer, keras.Sequential) or is_graph
