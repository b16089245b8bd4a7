"""Registers our classes with Keras, so that `.keras` files load in safe mode."""

import keras

PACKAGE = "keras_extras"


def serializable(cls):
    """Registers a class or function for (de)serialisation under `"keras_extras>Name"`."""
    return keras.saving.register_keras_serializable(package=PACKAGE)(cls)
