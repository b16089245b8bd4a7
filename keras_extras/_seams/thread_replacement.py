"""ThreadReplacement: other functions in place of those of a library, for a block of one thread."""

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class ThreadReplacement:
    """Replaces functions within a block, for the thread that runs it and nobody else.

    While any thread is in such a block, a function that asks where it is called stands in the
    place of each function. Other threads get the original by it. The last block puts back what
    was there.

    Args:
        name: String.
        places: Function without arguments that returns a list of owner, name of the attribute,
            and function from the original to its replacement.
    """

    def __init__(
        self,
        name: str,
        places: Callable[[], Sequence[tuple[Any, str, Callable[[Callable], Callable]]]],
    ):
        self._places = places
        self._value: contextvars.ContextVar = contextvars.ContextVar(name, default=None)
        self._lock = threading.RLock()
        self._blocks = 0
        self._installed: list[tuple[Any, str, Callable, Callable]] = []

    @property
    def value(self) -> Any:
        """The value of the block that this thread is in, else `None`."""
        return self._value.get()

    @contextlib.contextmanager
    def within(self, value: Any = True) -> Iterator[None]:
        """The block.

        Args:
            value: For the replacements to ask for. Defaults to `True`.
        """
        with self._lock:
            if not self._blocks:
                self._install()
            self._blocks += 1
        token = self._value.set(value)
        try:
            yield
        finally:
            self._value.reset(token)
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    self._remove()

    def _install(self):
        for owner, name, make in self._places():
            original = getattr(owner, name)
            asking = self._asking(original, make(original))
            self._installed.append((owner, name, original, asking))
            setattr(owner, name, asking)

    def _asking(self, original, replacement):
        @functools.wraps(original)
        def asking(*args, **kwargs):
            function = original if self._value.get() is None else replacement
            return function(*args, **kwargs)

        return asking

    def _remove(self):
        for owner, name, original, asking in self._installed:
            # Else another library has wrapped it meanwhile; it does nothing outside of blocks.
            if getattr(owner, name) is asking:
                setattr(owner, name, original)
        self._installed.clear()
