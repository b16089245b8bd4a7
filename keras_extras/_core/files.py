"""Files and folders that are there whole or not at all, whenever the process is killed."""

import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path beside `path` to write to, which takes its place at the end of the block.

    The new file has the mode of the one that was there; a symbolic link stays, and the file that it
    leads to is replaced. If the block raises, what was written is deleted, and the file that was
    there stays.
    """
    path = Path(os.path.realpath(path))
    temporary = _beside(path)
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
        if mode is not None:  # At no moment may others read it who could not before.
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """The same for a folder, which must not exist yet."""
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def read_arrays(path: str | os.PathLike, what: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a `.npz` file, of which nothing is unpickled.

    Args:
        path: The file.
        what: What it should be, in the error, such as `"the file of a Posterior"`.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is damaged or something else.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise
    # A damaged archive can make zipfile and NumPy raise nearly anything.
    except Exception as error:
        raise ValueError(
            f"`path` must be {what}. Received: {str(path)!r}, which is none or not whole: {error}"
        ) from error


def read_json(path: str | os.PathLike, what: str) -> Any:
    """The same for the content of a JSON file."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise ValueError(
            f"`path` must be {what}. Received: {str(path)!r}, which is none or not whole: {error}"
        ) from error


def remove_folder(path: str | os.PathLike) -> None:
    """Removes a folder if there is one, and lets nobody see it in part."""
    path = Path(path)
    if path.exists():
        temporary = _beside(path)
        os.rename(path, temporary)
        shutil.rmtree(temporary)


def remove_folders(parent: str | os.PathLike, *patterns: str) -> None:
    """Removes the folders in `parent` that match, and then itself if nothing else is in it."""
    for pattern in patterns:
        for path in Path(parent).glob(pattern):
            remove_folder(path)
    with suppress(OSError):  # It is not there, or holds what is not ours.
        Path(parent).rmdir()


def _beside(path):
    """A hidden name that no other process has, with the suffixes by which libraries know files."""
    path = Path(path)
    suffix = "".join(path.suffixes[-2:])
    ending = f".{secrets.token_hex(4)}.part{suffix if len(suffix) < 32 else ''}"
    # Names have 255 bytes at most.
    beginning = path.name.encode()[: 254 - len(ending.encode())].decode(errors="ignore")
    return path.with_name(f".{beginning}{ending}")
