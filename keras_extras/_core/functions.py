"""How configurations keep functions: as names, or as code that loads knowingly."""

import builtins
import dis
import importlib
import inspect
import types
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_extras._core.probability import require_probability, tfd

_NUMBERS_AND_NAMES = (bool, int, float, str, type(None))
_PLAIN = (*_NUMBERS_AND_NAMES, np.ndarray, np.generic)
_OF_TENSORFLOW = "tensorflow_probability.python."
_OF_JAX = "tensorflow_probability.substrates.jax."
_KINDS = ("globals", "closure", "defaults", "keyword_defaults")


def method_name(function: Any) -> str | Callable[..., Any]:
    """The name of a method or property of distributions; other functions as they are."""
    if isinstance(function, property) and function.fget is not None:
        return function.fget.__name__
    name = getattr(function, "__name__", None)
    is_method = name is not None and getattr(tfd.Distribution, name, None) is function
    return str(name) if is_method else function


def serialize_function(function: Any, owner: str) -> Any:
    """Returns the configuration of a function or of a class of `tfp.distributions`.

    A lambda is kept as byte code, together with the modules, numbers, strings and arrays that it
    uses, and a warning says what loads without `safe_mode=False`.

    Args:
        function: A function, the name of a method, or a class of `tfp.distributions`.
        owner: Name of the layer that holds it.

    Raises:
        ValueError: If it could not be loaded again: another class, a callable without a name or
            configuration, or a lambda that uses what a file does not hold.
    """
    if isinstance(function, type):
        name = function.__name__
        if getattr(tfd, name, None) is function:
            return {"distribution_class": name}
        raise ValueError(_not_saved(owner, f"a class of another library, {function}"))
    if not inspect.isfunction(function):
        if callable(function) and not hasattr(function, "get_config"):
            raise ValueError(_not_saved(owner, repr(function)))
        return keras.saving.serialize_keras_object(function)
    if function.__name__ != "<lambda>":
        return _named(function, owner)
    used = _used_by(function, owner)
    warnings.warn(
        f"{owner!r} is saved with a Python lambda, as byte code that loads only with "
        "`safe_mode=False` and on the same version of Python. For a file that loads safely use a "
        "named layer such as `keras_extras.layers.IndependentNormal`, or a function with the "
        "decorator `keras.saving.register_keras_serializable()`.",
        UserWarning,
        stacklevel=3,
    )
    # Keras' own layer of a function has the byte code in its configuration, and minds safe mode.
    cells = tuple(types.CellType() for _ in function.__code__.co_freevars)
    for cell in cells:
        cell.cell_contents = None
    bare = types.FunctionType(function.__code__, {}, function.__name__, None, cells)
    return {"lambda": keras.layers.Lambda(bare, name="lambda").get_config(), **used}


def deserialize_function(config: Any) -> Any:
    """The function that `serialize_function` described; anything else unchanged."""
    if not isinstance(config, dict):
        return config
    if "distribution_class" in config:
        return distribution_class(config["distribution_class"])
    if "lambda" in config:
        return _deserialize_lambda(config)
    return keras.saving.deserialize_keras_object(config)


def optional_function(name: str, config: Any) -> Callable[..., Any] | None:
    """The function that an argument gives, itself or by its configuration; or None.

    Args:
        name: The name of the argument.
        config: Its value.

    Raises:
        TypeError: If it is something else.
    """
    function = deserialize_function(config)
    if not (function is None or callable(function)):
        raise TypeError(f"`{name}` must be a function or None. Received: {name}={config!r}")
    return function


def _deserialize_lambda(config):
    saved = config["lambda"].get("function") if isinstance(config["lambda"], dict) else None
    if not isinstance(saved, dict) or saved.get("class_name") != "__lambda__":
        raise ValueError(f"There is no lambda in the configuration {config['lambda']}")
    parts = [saved["config"].get(name) for name in ("code", "defaults", "closure")]
    # Raises in safe mode, before anything that the file names is imported or built.
    bare = keras.saving.deserialize_keras_object(
        {"class_name": "__lambda__", "config": {"value": parts}}
    )
    code = bare.__code__
    used = {kind: config[kind] for kind in _KINDS}
    _check_used(code, used)
    used = {kind: {name: _read(value) for name, value in used[kind].items()} for kind in _KINDS}
    function = types.FunctionType(
        code,
        {**used["globals"], "__builtins__": builtins},
        code.co_name,
        tuple(used["defaults"].values()),
        tuple(types.CellType(used["closure"][name]) for name in code.co_freevars),
    )
    function.__kwdefaults__ = used["keyword_defaults"]
    return function


def distribution_class(name: str) -> Any:
    """A class of TFP by its public name; nothing else, as files are not to be trusted."""
    cls = getattr(tfd, name, None)
    if not (isinstance(cls, type) and issubclass(cls, tfd.Distribution)):
        raise ValueError(f"There is no distribution {name!r} in tensorflow_probability")
    return cls


def _named(function, owner):
    config = keras.saving.serialize_keras_object(function)
    try:
        found = keras.saving.deserialize_keras_object(config)
    except (TypeError, ValueError):  # Loads with `custom_objects`.
        return config
    # Notebooks define a function again; what a file names is the last.
    if (found.__module__, found.__name__) != (function.__module__, function.__name__):
        what = f"{function}: its name is that of another function, {found}"
        raise ValueError(_not_saved(owner, what))
    return config


def _used_by(function, owner):
    """Returns the globals, closure and defaults that a lambda uses, by kind and name."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    names = [name for name in _global_names(function.__code__) if name in function.__globals__]
    defaults = function.__defaults__ or ()
    used = {
        "globals": {name: function.__globals__[name] for name in names},
        "closure": dict(zip(function.__code__.co_freevars, cells)),
        "defaults": {str(index): value for index, value in enumerate(defaults)},
        "keyword_defaults": dict(function.__kwdefaults__ or {}),
    }
    return {
        kind: {name: _written(name, value, owner) for name, value in of_kind.items()}
        for kind, of_kind in used.items()
    }


def _global_names(code):
    """Names that a function and those inside of it look up outside of them."""
    names = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    for constant in code.co_consts:
        if inspect.iscode(constant):
            names.update(_global_names(constant))
    return sorted(names)


def _written(name, value, owner):
    if isinstance(value, types.ModuleType) and _is_importable(value):
        return {"module": value.__name__.replace(_OF_JAX, _OF_TENSORFLOW)}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [_written(name, entry, owner) for entry in value]}
    is_variable_or_output = hasattr(value, "assign") or hasattr(value, "tensor_distribution")
    if isinstance(value, _PLAIN) or (keras.ops.is_tensor(value) and not is_variable_or_output):
        return {"value": keras.saving.serialize_keras_object(value)}
    raise ValueError(_not_saved(owner, f"a lambda that uses {name!r} of type {type(value)}"))


def _check_used(code, used):
    """Raises unless these are names and values that `_used_by` writes for such a lambda."""
    number = len(used["defaults"])
    expected = {
        "globals": set(_global_names(code)) & set(used["globals"]),
        "closure": set(code.co_freevars),
        "defaults": set(map(str, range(min(number, code.co_argcount)))),
        "keyword_defaults": set(_keyword_only(code)) & set(used["keyword_defaults"]),
    }
    for kind, names in expected.items():
        if set(used[kind]) != names or not all(map(_is_written, used[kind].values())):
            raise ValueError(
                "The configuration of a lambda must hold the modules, numbers, strings and arrays "
                f"that the lambda uses, and nothing else. Received: {kind}={used[kind]}"
            )


def _keyword_only(code):
    return code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]


def _is_written(config):
    """Whether `_written` returns such a configuration."""
    if not isinstance(config, dict) or len(config) != 1:
        return False
    ((kind, value),) = config.items()
    if kind in ("tuple", "list"):
        return isinstance(value, list) and all(map(_is_written, value))
    if isinstance(value, dict):
        return kind == "value" and value.get("class_name") in ("__numpy__", "__tensor__")
    return isinstance(value, str if kind == "module" else _NUMBERS_AND_NAMES)


def _read(config):
    if "module" in config:
        return _module(config["module"])
    for kind in (tuple, list):
        if kind.__name__ in config:
            return kind(map(_read, config[kind.__name__]))
    return keras.saving.deserialize_keras_object(config["value"])


def _module(name):
    """The module of a name; those of TensorFlow Probability are those of the backend."""
    if name.startswith(_OF_TENSORFLOW):
        require_probability()
        if keras.backend.backend() == "jax":
            name = name.replace(_OF_TENSORFLOW, _OF_JAX)
    return importlib.import_module(name)


def _is_importable(module):
    try:
        return importlib.import_module(module.__name__) is not None
    except ImportError:
        return False


def _not_saved(owner, what):
    return (
        f"{owner!r} cannot be saved with {what}, which a file does not hold. Write a function "
        "with the decorator `keras.saving.register_keras_serializable()`, or a layer of your own. "
        "Of what a lambda uses, modules, numbers, strings and arrays are saved."
    )
