"""Argument checks with one shape of message: name, rule, received value."""

import math
import numbers
from collections.abc import Collection
from typing import Any


def check_choice(name: str, value: Any, choices: Collection[Any]) -> Any:
    """Returns `value` if it is one of `choices`."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {listed}. Received: {name}={value!r}")
    return value


def check_integer(name: str, value: Any, minimum: int = 1) -> int:
    """Returns `value` as an `int` if it is an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={value!r}")
    if value < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}. Received: {name}={value!r}")
    return int(value)


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
        rule = " and ".join(rules) or "finite"
        raise ValueError(f"`{name}` must be {rule}. Received: {name}={value!r}")
    return number


def check_share(name: str, value: Any) -> float:
    """Returns `value` as a `float` if it is a number between 0 and 1, neither of them."""
    value = check_number(name, value)
    if not 0 < value < 1:
        raise ValueError(f"`{name}` must lie in (0, 1). Received: {name}={value!r}")
    return value
