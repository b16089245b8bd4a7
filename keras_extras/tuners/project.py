"""The folder of a search: who searches in it, and whose state is there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_extras._core.files import whole_file
from keras_extras._core.locks import ProcessLock

_LOCK = ".search.lock"
# The names by which a search in one process, and the chief of several, know their state.
_ALONE, _CHIEF = "tuner0", "chief"
_locks: dict[Path, ProcessLock] = {}


def project_folder(directory: Any = None, project_name: Any = None, **_: Any) -> Path:
    """Returns the folder of a tuner with these arguments."""
    return Path(str(directory or "."), project_name or "untitled_project")


@contextmanager
def lock_search(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Lets this process alone search in the folder, during the block.

    Args:
        folder: The folder of a search.
        patience: Seconds to wait for another search that may be about to end. Defaults to `0.0`.

    Raises:
        RuntimeError: If another search goes on there.
    """
    lock = _acquired(folder, patience)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def refuse_if_searched(folder: Path, patience: float = 0.0) -> None:
    """Raises a `RuntimeError` if another search goes on in the folder."""
    if folder in _locks:
        _locks.pop(folder).release()
    with lock_search(folder, patience):
        pass


def lock_until_the_end(folder: Path, patience: float) -> None:
    """Lets this process alone search in the folder, for as long as it lives."""
    if folder not in _locks and (lock := _acquired(folder, patience)) is not None:
        _locks[folder] = lock


def _acquired(folder, patience):
    if not folder.is_dir():
        return None  # Not there yet, or not on this machine.
    lock = ProcessLock(folder / _LOCK)
    if not lock.acquire(patience):
        raise RuntimeError(
            f"Another search goes on in {folder}. Wait for its end, or end it, or choose another "
            "`project_name`"
        )
    return lock


def take_over_state(folder: Path, tuner_id: str) -> None:
    """Lets a tuner find its project, which a search of the other kind has left.

    keras-tuner looks for a file with the name of the tuner, `chief` or `tuner0`, and where it is
    missing starts over, without a word.
    """
    if not has_state(folder, tuner_id) and (folder / "oracle.json").exists():
        for name in (_CHIEF, _ALONE):
            _copy_state(folder, name, tuner_id)


def share_state(folder: Path) -> None:
    """Lets tuners in one process find the project of a chief."""
    if not has_state(folder, _ALONE):
        _copy_state(folder, _CHIEF, _ALONE)


def has_state(folder: Path, tuner_id: str) -> bool:
    """Returns whether a tuner of that name finds its project in the folder."""
    return (folder / f"{tuner_id}.json").exists()


def _copy_state(folder, source, target):
    path = folder / f"{source}.json"
    if source != target and path.exists():
        with whole_file(folder / f"{target}.json") as temporary:
            shutil.copyfile(path, temporary)


def state_on_disk(folder: Path) -> tuple[int, ...] | None:
    """Returns what changes whenever a process saves the state of the search."""
    try:
        found = os.stat(folder / "oracle.json")
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
