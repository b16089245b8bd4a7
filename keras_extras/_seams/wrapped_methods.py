"""Wrapping a method of another library once, also where others wrap it before or after."""

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

_lock = threading.RLock()


class _Wrapper(NamedTuple):
    key: str
    stock: Callable


# What we know of our wrappers.
_ours: dict[Callable, _Wrapper] = {}


def wrap_once(cls: type, name: str, wrap: Callable[[Callable], Callable], key: str = "") -> None:
    """Replaces a method by a wrapper of it, unless an earlier call did.

    It is replaced in the class that has it: `cls`, or the first of its bases that does. Wrappers of
    other libraries may stand before and behind. Ours is known by its identity, because
    `functools.wraps` copies attributes to them and gives each of them a `__wrapped__`.

    Args:
        cls: The class.
        name: The name of the method.
        wrap: Function from the method to its replacement.
        key: String that sets apart several wrappers of one method. Defaults to `""`.
    """
    with _lock:
        owner = owner_of(cls, name)
        stock: Any = getattr(owner, name)
        if is_wrapped(stock, key):
            return
        wrapper = functools.wraps(stock)(wrap(stock))
        _ours[wrapper] = _Wrapper(key, stock)
        setattr(owner, name, wrapper)


def unwrap(cls: type, name: str) -> None:
    """Takes our wrappers off a method, down to the first of another library; for tests."""
    with _lock:
        owner = owner_of(cls, name)
        method = getattr(owner, name)
        while method in _ours:
            method = _ours.pop(method).stock
        setattr(owner, name, method)


def is_wrapped(method: Any, key: str = "") -> bool:
    """Returns whether a wrapper of `wrap_once` with this key is part of a method."""
    while method is not None:
        if method in _ours and _ours[method].key == key:
            return True
        method = getattr(method, "__wrapped__", None)
    return False


def owner_of(cls: type, name: str) -> type:
    """Returns the class that a method of a class is defined in."""
    return next(owner for owner in cls.__mro__ if name in vars(owner))


def wrap_on_object(owner: Any, name: str, wrap: Callable[[Callable], Callable]) -> None:
    """Replaces a method of one object, so that no other object of its class is touched.

    Args:
        owner: The object.
        name: The name of the method.
        wrap: Function from the bound method to its replacement, a function without the object.
    """
    setattr(owner, name, wrap(getattr(owner, name)))
