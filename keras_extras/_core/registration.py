"""Registers our classes with Keras, so that `.keras` files load in safe mode."""

import functools
import inspect
from typing import Any

import keras

from keras_extras._core.saved_objects import check_modules

PACKAGE = "keras_extras"


def serializable(cls=None, *, name: str | None = None):
    """Registers a class or function for (de)serialization under `"keras_extras>Name"`.

    Args:
        cls: The class or function.
        name: String to register instead of the class' own name, where two folders share one.
    """
    if cls is None:
        return functools.partial(serializable, name=name)
    if inspect.isclass(cls) and hasattr(cls, "from_config"):
        cls.from_config = _checking_modules(cls.from_config.__func__)
    return keras.saving.register_keras_serializable(package=PACKAGE, name=name)(cls)


def _checking_modules(from_config):
    @functools.wraps(from_config)
    def checked(cls, config: Any, *args: Any, **kwargs: Any) -> Any:
        check_modules(config)
        return from_config(cls, config, *args, **kwargs)

    return classmethod(checked)
