"""Folders and files that only one process at a time writes to."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has no locks of folders.
    fcntl = None  # type: ignore[assignment]

# Open folders, by their paths; their locks end with the process, however that ends.
_locked: dict[Path, int] = {}


def lock_folder(folder: str | os.PathLike, argument: str) -> None:
    """Makes a folder, and keeps other processes from locking it until it is released.

    The same process may lock it again, as after an interruption. Where folders have no locks, as
    on Windows and some file systems of networks, others are not kept out.

    Args:
        folder: The folder.
        argument: The user's argument that names it, for errors.

    Raises:
        OSError: If the folder cannot be made or written to.
        RuntimeError: If another process has it.
    """
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
    if fcntl is None or (path in _locked and _is_still_at(path, _locked[path])):
        return
    release_folder(path)
    opened = os.open(path, os.O_RDONLY)
    if not _lock(opened):
        os.close(opened)
        raise RuntimeError(
            f"`{argument}` must be a folder that no other process works in. Received: "
            f"{argument}={str(folder)!r}, in which another does. Wait until it ends, or give "
            "another folder"
        )
    _locked[path] = opened


@contextmanager
def locked_folder(folder: str | os.PathLike | None, argument: str) -> Iterator[None]:
    """The same for the time of a block; of `None` nothing is locked."""
    if folder is None:
        yield
        return
    lock_folder(folder, argument)
    try:
        yield
    finally:
        release_folder(folder)


def release_folder(folder: str | os.PathLike) -> None:
    """Releases a folder that `lock_folder` locked, if it still is."""
    opened = _locked.pop(Path(folder).absolute(), None)
    if opened is not None:
        os.close(opened)


def lock_file(file: IO) -> bool:
    """Locks an open file until it is closed; returns whether no other process has it."""
    return fcntl is None or _lock(file.fileno())


def _lock(opened):
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # This file system has no locks.
    return True


def _is_still_at(path, opened):
    return os.path.samestat(os.fstat(opened), os.stat(path))


def _leave_to_the_parent():
    """Forks would keep the lock of a parent that was killed."""
    for path in list(_locked):
        release_folder(path)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)
