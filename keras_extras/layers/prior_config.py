"""Priors in configurations: distributions, layers and functions."""

from typing import Any

import keras

from keras_extras._core.functions import deserialize_function, serialize_function
from keras_extras._core.probability import require_probability, tfd
from keras_extras.layers.distribution_config import (
    deserialize_distribution,
    serialize_distribution,
)


def serialize_prior(prior: Any, owner: str) -> Any:
    """Returns the configuration of a distribution, a layer or a function."""
    if isinstance(prior, tfd.Distribution):
        return serialize_distribution(prior)
    if isinstance(prior, keras.layers.Layer):
        return keras.saving.serialize_keras_object(prior)
    return serialize_function(prior, owner)


def deserialize_prior(config: Any) -> Any:
    """The prior that `serialize_prior` described; anything else unchanged.

    Raises:
        TypeError: If it is a distribution of another backend.
    """
    if isinstance(config, dict) and "distribution" in config:
        return deserialize_distribution(config)
    is_of_tfp = type(config).__module__.startswith("tensorflow_probability.")
    if (
        is_of_tfp
        and hasattr(config, "log_prob")
        and not isinstance(config, type | tfd.Distribution)
    ):
        raise TypeError(
            f"On Keras' backend {keras.backend.backend()!r} a distribution must be one of "
            f"`{require_probability().__name__}`. Received: {config} of {type(config)}"
        )
    return deserialize_function(config)
