"""Configurations of files, which must not choose what is imported."""

import sys
from typing import Any

import keras


def check_modules(config: Any) -> None:
    """Raises unless all classes and functions in a configuration are there already.

    Keras imports modules such as `keras_hub` if a file names them, even if another module of that
    name lies beside the file.

    Args:
        config: A configuration, or a structure of them.

    Raises:
        ValueError: If a class or function is neither registered nor in a module that is imported.
    """
    if isinstance(config, list | tuple):
        for entry in config:
            check_modules(entry)
    if not isinstance(config, dict):
        return
    module = config.get("module")
    if "class_name" in config and isinstance(module, str) and module not in sys.modules:
        names = [config.get(key) for key in ("registered_name", "class_name", "config")]
        if not any(_is_registered(name) for name in names):
            raise ValueError(
                f"The configuration names the module {module!r}, which is not imported. Import it "
                "before loading, if it is yours, and register what it defines by "
                "`keras.saving.register_keras_serializable()`. "
                f"Received: class_name={config['class_name']!r}"
            )
    for value in config.values():
        check_modules(value)


def _is_registered(name):
    return isinstance(name, str) and keras.saving.get_registered_object(name) is not None
