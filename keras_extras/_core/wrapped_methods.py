"""Wrapping a method of another library once, also where others wrap it before or after."""

import functools
import threading
from collections.abc import Callable
from typing import Any

# From our wrappers to their keys.
_ours: dict[Callable, str] = {}
_lock = threading.RLock()


def wrap_once(owner: type, name: str, wrap: Callable[[Callable], Callable], key: str = "") -> None:
    """Replaces a method of a class by a wrapper of it, unless an earlier call did.

    Wrappers of other libraries may stand before and behind. Ours is known by its identity, because
    `functools.wraps` copies attributes to them and gives each of them a `__wrapped__`.

    Args:
        owner: The class.
        name: The name of the method.
        wrap: Function from the method to its replacement.
        key: String that sets apart several wrappers of one method. Defaults to `""`.
    """
    with _lock:
        stock: Any = getattr(owner, name)
        if is_wrapped(stock, key):
            return
        wrapper = functools.wraps(stock)(wrap(stock))
        _ours[wrapper] = key
        setattr(owner, name, wrapper)


def is_wrapped(method: Any, key: str = "") -> bool:
    """Returns whether a wrapper of `wrap_once` with this key is part of a method."""
    while method is not None:
        if _ours.get(method) == key:
            return True
        method = getattr(method, "__wrapped__", None)
    return False
