"""Locks of files and folders that the system frees when their holder dies, however it dies."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_POLL_SECONDS = 0.1
# Paths and open files of the locks that are held here.
_held: dict[str, int] = {}
_guard = threading.Lock()
_folders: dict[Path, "ProcessLock"] = {}


class ProcessLock:
    """Lock of a file or folder, held by at most one process, and there by one `ProcessLock`.

    A forked child does not have it, so that no child of a killed process keeps it. Where there are
    no locks, as on Windows and some file systems of networks, it holds within the process only.

    Args:
        path: Path of a folder, or of a file, which is created and stays.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._key: str | None = None

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
            opened = _held.pop(self._key, None) if self._key is not None else None
            self._key = None
            if opened is not None:
                os.close(opened)

    def holds(self) -> bool:
        """Returns whether it is held, and of what is at the path still."""
        opened = _held.get(self._key) if self._key is not None else None
        try:
            return opened is not None and os.path.samestat(os.fstat(opened), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _try(self):
        with _guard:
            key = os.path.realpath(self.path)
            if key in _held:
                return False
            flags = os.O_RDONLY if os.path.isdir(key) else os.O_RDWR | os.O_CREAT
            opened = os.open(key, flags, 0o666)
            try:
                if fcntl is not None:
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(opened)
                return False
            except OSError:
                pass  # A file system without locks.
            self._key = key
            _held[key] = opened
            return True

    def __enter__(self) -> "ProcessLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_folder(folder: str | os.PathLike, argument: str) -> None:
    """Makes a folder, and keeps other processes from locking it until it is released.

    The same process may lock it again, as after an interruption.

    Args:
        folder: The folder.
        argument: The user's argument that names it, for errors.

    Raises:
        OSError: If the folder cannot be made or written to.
        RuntimeError: If another process has it.
        TypeError: If it is not a path.
    """
    if not isinstance(folder, str | os.PathLike) or not str(folder):
        raise TypeError(
            f"`{argument}` must be the path of a folder. Received: {argument}={folder!r}"
        )
    path = Path(folder).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OSError(
            error.errno,
            f"`{argument}` must be a folder that can be made and written to. Received: "
            f"{argument}={str(folder)!r}, where that failed: {error.strerror}",
        ) from error
    if path in _folders and _folders[path].holds():
        return
    release_folder(path)
    lock = ProcessLock(path)
    if not lock.acquire():
        raise RuntimeError(
            f"`{argument}` must be a folder that no other process works in. Received: "
            f"{argument}={str(folder)!r}, in which another does. Wait until it ends, or give "
            "another folder"
        )
    _folders[path] = lock


def release_folder(folder: str | os.PathLike) -> None:
    """Releases a folder that `lock_folder` locked, if it still is."""
    lock = _folders.pop(Path(folder).absolute(), None)
    if lock is not None:
        lock.release()


@contextmanager
def locked_folder(folder: str | os.PathLike | None, argument: str) -> Iterator[None]:
    """Locks a folder for the time of a block; of `None` nothing is locked."""
    if folder is None:
        yield
        return
    lock_folder(folder, argument)
    try:
        yield
    finally:
        release_folder(folder)


def _leave_to_the_parent():
    global _guard
    _guard = threading.Lock()  # Another thread of the parent may have had it.
    for opened in _held.values():
        os.close(opened)
    _held.clear()
    _folders.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)
