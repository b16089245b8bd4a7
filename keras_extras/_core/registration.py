"""Registers our classes with Keras, so that `.keras` files load in safe mode."""

import keras

PACKAGE = "keras_extras"


def serializable(cls=None, *, name: str | None = None):
    """Registers a class or function for (de)serialisation under `"keras_extras>Name"`.

    Args:
        cls: The class or function.
        name: String to register instead of the class' own name, where two folders share one.
    """
    register = keras.saving.register_keras_serializable(package=PACKAGE, name=name)
    return register if cls is None else register(cls)
