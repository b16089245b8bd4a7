"""TensorFlow and TensorFlow Probability, imported when a distribution is first needed."""

import importlib
from types import ModuleType
from typing import Any

import keras


def require_probability() -> ModuleType:
    """Imports TensorFlow Probability, or says why distributions cannot be had.

    Raises:
        ImportError: On a Keras backend other than TensorFlow.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ImportError(
            "Distributions in keras_extras stand on TensorFlow Probability and need Keras on "
            "TensorFlow. Set the environment variable KERAS_BACKEND=tensorflow before Keras is "
            f"imported. Received: keras.backend.backend()={backend!r}"
        )
    return importlib.import_module("tensorflow_probability")


class _ModuleOnUse:
    """Stands for a module, and imports it when an attribute is asked for."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        library, _, submodule = self._name.partition(".")
        module = require_probability()
        if library == "tensorflow":
            module = importlib.import_module("tensorflow")
        return getattr(getattr(module, submodule) if submodule else module, attribute)


tf = _ModuleOnUse("tensorflow")
tfp = _ModuleOnUse("tensorflow_probability")
tfd = _ModuleOnUse("tensorflow_probability.distributions")
tfb = _ModuleOnUse("tensorflow_probability.bijectors")


def stateless_seed(generator: keras.random.SeedGenerator) -> Any:
    """Returns the next seed of a generator for TFP's samplers: stateless for two `int32`."""
    return tf.cast(generator.next(), tf.int32)
