"""How layers keep the functions that they are given: as names, or as code that loads knowingly."""

import builtins
import importlib
import inspect
import types
import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_extras._core.probability import tfd


def method_name(function: Any) -> str | Callable[..., Any]:
    """The name of a method or property of distributions; other functions as they are."""
    if isinstance(function, property) and function.fget is not None:
        return function.fget.__name__
    name = getattr(function, "__name__", None)
    is_method = name is not None and getattr(tfd.Distribution, name, None) is function
    return str(name) if is_method else function


def serialize_function(function: str | Callable[..., Any], owner: str) -> Any:
    """What a configuration holds for a function.

    A lambda is kept as byte code, together with the names of the modules that it uses, and a
    warning says what loads without `safe_mode=False`.

    Args:
        function: A function, or the name of a method.
        owner: Name of the layer that holds it.
    """
    if not inspect.isfunction(function) or function.__name__ != "<lambda>":
        return keras.saving.serialize_keras_object(function)
    warnings.warn(
        f"Layer {owner!r} is saved with a Python lambda, as byte code that loads only with "
        "`safe_mode=False` and on the same version of Python. For a file that loads safely use a "
        "named layer such as `keras_extras.layers.IndependentNormal`, or a function with the "
        "decorator `keras.saving.register_keras_serializable()`.",
        UserWarning,
        stacklevel=3,
    )
    # Keras' own layer of a function has the byte code in its configuration, and minds safe mode.
    layer = keras.layers.Lambda(function, name="lambda")
    return {"lambda": layer.get_config(), "modules": _modules_of(function)}


def deserialize_function(config: Any) -> Any:
    """The function that `serialize_function` described; anything else unchanged."""
    if not isinstance(config, dict):
        return config
    if "lambda" not in config:
        return keras.saving.deserialize_keras_object(config)
    function = keras.layers.Lambda.from_config(config["lambda"]).function
    modules = {name: importlib.import_module(path) for name, path in config["modules"].items()}
    return types.FunctionType(
        function.__code__,
        {"__builtins__": builtins, **modules},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


def _modules_of(function):
    """Full names of the modules among the globals of a function, by the names it uses."""
    codes = [function.__code__]
    names = set()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes.extend(constant for constant in code.co_consts if inspect.iscode(constant))
    values = {name: function.__globals__.get(name) for name in sorted(names)}
    return {
        name: value.__name__
        for name, value in values.items()
        if isinstance(value, types.ModuleType)
    }
