"""A lock between processes that the system frees when its holder dies, however it dies."""

import os
import threading
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_POLL_SECONDS = 0.1
_held: set[str] = set()
_guard = threading.Lock()


class ProcessLock:
    """Lock of a file, held by at most one process, and there by at most one `ProcessLock`.

    A forked child does not inherit it, unlike that of `flock`, so that no child of a killed process
    keeps it. Where the file system has no locks, it holds within the process only.

    Args:
        path: Path of the file, which is created and stays.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._file: int | None = None
        self._key = ""

    def acquire(self, patience: float = 0.0) -> bool:
        """Returns whether this is the holder now.

        Args:
            patience: Seconds to wait for another holder, which may be about to die. Defaults to
                `0.0`.
        """
        end = time.monotonic() + patience
        while not self._try():
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def release(self) -> None:
        """Frees the lock; does nothing where it is not held."""
        with _guard:
            if self._file is not None:
                os.close(self._file)
                self._file = None
                _held.discard(self._key)

    def _try(self):
        with _guard:
            key = os.path.realpath(self.path)
            # A second descriptor of the file, once closed, would free the lock of the first.
            if key in _held:
                return False
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if fcntl is not None:
                    fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # Systems differ in the number of the error.
                os.close(self._file)
                self._file = None
                return False
            except OSError:
                pass  # A file system without locks.
            self._key = key
            _held.add(key)
            return True

    def __enter__(self) -> "ProcessLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
