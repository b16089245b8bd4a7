"""Wrapping a method of another library once, also where others wrap it before or after."""

import functools
from collections.abc import Callable
from typing import Any

_ours: set[Callable] = set()


def wrap_once(owner: type, name: str, wrap: Callable[[Callable], Callable]) -> None:
    """Replaces a method of a class by a wrapper of it, unless an earlier call did.

    Wrappers of other libraries may stand before and behind. Ours is known by its identity, because
    `functools.wraps` copies attributes to them and gives each of them a `__wrapped__`.

    Args:
        owner: The class.
        name: The name of the method.
        wrap: Function from the method to its replacement.
    """
    stock: Any = getattr(owner, name)
    if is_wrapped(stock):
        return
    wrapper = functools.wraps(stock)(wrap(stock))
    _ours.add(wrapper)
    setattr(owner, name, wrapper)


def is_wrapped(method: Any) -> bool:
    """Returns whether a wrapper of `wrap_once` is part of a method."""
    while method is not None:
        if method in _ours:
            return True
        method = getattr(method, "__wrapped__", None)
    return False
