"""Argument checks with one shape of message: name, rule, received value."""

import math
import numbers
from collections.abc import Collection, Hashable, Iterable, Mapping, Set
from typing import Any

import keras
import numpy as np


def check_choice(name: str, value: Any, choices: Collection[Any], any_case: bool = False) -> Any:
    """Returns `value` if it is one of `choices`, with `any_case` also in capital letters."""
    if any_case and isinstance(value, str):
        value = value.lower()
    # What has no hash, such as an array, has no plain answer to `==` either.
    if not isinstance(value, Hashable) or value not in tuple(choices):
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {listed}. Received: {name}={value!r}")
    return value


def check_integer(name: str, value: Any, minimum: int = 1) -> int:
    """Returns `value` as an `int` if it is an integer of at least `minimum`."""
    value = _plain_integers(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={value!r}")
    number = int(value)
    if number < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}. Received: {name}={value!r}")
    if number >= 2**63:
        raise ValueError(f"`{name}` must be less than 2**63. Received: {name}={value!r}")
    return number


def check_number(
    name: str,
    value: Any,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
) -> float:
    """Returns `value` as a `float` if it is a finite number within the limits."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a number. Received: {name}={value!r}")
    number = float(value)
    if not (math.isfinite(number) and number > above and at_least <= number <= at_most):
        rules = [
            f"{words} {limit:g}"
            for words, limit in (
                ("greater than", above),
                ("at least", at_least),
                ("at most", at_most),
            )
            if math.isfinite(limit)
        ]
        if not math.isfinite(number):
            rules.append("finite")
        rule = " and ".join(rules)
        raise ValueError(f"`{name}` must be {rule}. Received: {name}={value!r}")
    return number


def check_bounds(lower: Any, upper: Any) -> tuple[float | None, float | None]:
    """Returns `lower` and `upper` as `float`s or `None`, of which one is given, in this order."""
    if lower is None and upper is None:
        raise ValueError("`lower` or `upper` must be given. Received: lower=None, upper=None")
    low = None if lower is None else check_number("lower", lower)
    high = None if upper is None else check_number("upper", upper)
    if low is not None and high is not None and high <= low:
        raise ValueError(
            f"`upper` must be greater than `lower`. Received: lower={lower!r}, upper={upper!r}"
        )
    return low, high


def check_share(name: str, value: Any) -> float:
    """Returns `value` as a `float` if it is a number between 0 and 1, neither of them."""
    value = check_number(name, value)
    if not 0 < value < 1:
        raise ValueError(f"`{name}` must lie in (0, 1). Received: {name}={value!r}")
    return value


def check_decay(name: str, value: float) -> float:
    """Returns a decay or power as a float; raises a ValueError if it is not in [0, 1)."""
    if check_number(name, value, at_least=0) >= 1:
        raise ValueError(f"`{name}` must be less than 1. Received: {name}={value}")
    return float(value)


def check_integers(name: str, value: Any, minimum: int = 1) -> tuple[int, ...]:
    """Returns `value`, an integer or a list of integers of at least `minimum`, as a tuple."""
    value = _plain_integers(value)
    if isinstance(value, bool | numbers.Integral):
        value = (value,)
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | Set)
    if not is_list or getattr(value, "ndim", 1) == 0:
        raise TypeError(
            f"`{name}` must be an integer or a list of integers. Received: {name}={value!r}"
        )
    return tuple(check_integer(name, one, minimum) for one in value)


def _plain_integers(value):
    """Integers in place of an array or tensor of integers; anything else unchanged."""
    if not (isinstance(value, np.ndarray) or keras.ops.is_tensor(value)):
        return value
    try:
        array = np.asarray(value)
    except (NotImplementedError, TypeError):  # a tensor of a graph, without a value
        return value
    return array.tolist() if array.dtype.kind in "iu" and array.ndim < 2 else value


def check_flag(name: str, value: Any) -> bool:
    """Returns `value` if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)


def check_seed(seed: Any) -> int | None:
    """Returns `seed` if it is None, or an integer that Keras' backend takes."""
    if seed is None:
        return None
    is_unsigned = keras.backend.backend() == "jax"
    seed = check_integer("seed", seed, minimum=0 if is_unsigned else -(2**63))
    if seed >= 2 ** (32 if is_unsigned else 63):
        raise ValueError(
            f"`seed` must be less than {2 ** (32 if is_unsigned else 63):,}. Received: seed={seed}"
        )
    return seed


def check_learning_rate(learning_rate: Any) -> Any:
    """Returns `learning_rate` unless it is a number that no step can be made with."""
    if isinstance(learning_rate, float):
        check_number("learning_rate", learning_rate, at_least=0.0)
    return learning_rate  # Keras itself checks schedules and functions.


def check_same_rows(y_true: Any, y_pred: Any) -> None:
    """Raises unless there are as many targets as predictions, and some, where shapes are known."""
    lengths = (y_true.shape[0], y_pred.shape[0])
    if None not in lengths and (lengths[0] != lengths[1] or 0 in lengths):
        raise ValueError(
            "`y_true` and `y_pred` must have as many rows, at least one. "
            f"Received: {lengths[0]} rows of y_true, {lengths[1]} of y_pred"
        )


def check_inputs(layer_name: str, inputs: Any) -> None:
    """Raises unless the inputs of a layer are one tensor of numbers with at least one axis."""
    if not hasattr(inputs, "dtype"):
        raise TypeError(
            f"Layer {layer_name!r} needs one tensor. Received: inputs of type "
            f"{type(inputs).__name__}"
        )
    if "string" in str(inputs.dtype):
        raise TypeError(
            f"Layer {layer_name!r} needs inputs of numbers. Received: inputs of dtype string"
        )
    if len(inputs.shape) == 0:
        raise ValueError(f"Layer {layer_name!r} needs inputs of shape (n, ...). Received: shape ()")


def check_unconstrained(variables: Any, reason: str) -> None:
    """Raises if a variable has a constraint.

    Args:
        variables: List of `keras.Variable`s.
        reason: String, the start of the error message: why there can be none, and what to do.

    Raises:
        ValueError: With the paths of those that have one.
    """
    constrained = [v.path for v in variables if v.constraint is not None]
    if constrained:
        paths = ", ".join(map(repr, constrained))
        raise ValueError(f"{reason} Received: constraints of {paths}")


def check_built_for(optimizer_name: str, variables: Any, built_for: Any) -> None:
    """Raises if variables are not those that an optimizer was built for, in the same order.

    Args:
        optimizer_name: String, with which the error message starts.
        variables: List of `keras.Variable`s.
        built_for: The same.

    Raises:
        ValueError: With the paths of both.
    """
    if [id(v) for v in variables] != [id(v) for v in built_for]:
        received, expected = (", ".join(repr(v.path) for v in vs) for vs in (variables, built_for))
        raise ValueError(
            f"{optimizer_name} was built for other variables; make a new optimizer for these. "
            f"Received: {received}. Built for: {expected}"
        )
