"""Deserialization of objects that configurations hold, which imports nothing."""

import sys
from typing import Any

import keras


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """`keras.saving.deserialize_keras_object`, for which all modules must be loaded already.

    Keras imports modules of its own packages by the names that a file holds, also where a file
    of another origin has such a name.

    Args:
        config: A configuration, or a structure of them.
        custom_objects: Dict from names to classes and functions. Defaults to `None`.

    Raises:
        ValueError: If a class or function is neither registered nor in a module that is loaded.
    """
    _check_modules(config, custom_objects)
    return keras.saving.deserialize_keras_object(config, custom_objects)


def _check_modules(config, custom_objects):
    if isinstance(config, list | tuple):
        for entry in config:
            _check_modules(entry, custom_objects)
    if not isinstance(config, dict):
        return
    module = config.get("module")
    if "class_name" in config and module is not None and module not in sys.modules:
        names = [config.get(key) for key in ("registered_name", "class_name", "config")]
        if not any(_is_registered(name, custom_objects) for name in names):
            raise ValueError(
                f"The configuration names the module {module!r}, which is not imported. Import it "
                "before loading, if it is yours, and register what it defines by "
                "`keras.saving.register_keras_serializable()`. "
                f"Received: class_name={config['class_name']!r}"
            )
    for value in config.values():
        _check_modules(value, custom_objects)


def _is_registered(name, custom_objects):
    registered = keras.saving.get_registered_object
    return isinstance(name, str) and registered(name, custom_objects) is not None
