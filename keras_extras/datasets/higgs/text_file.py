"""Opens text files, compressed or not, whatever their names."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

# The bytes that compressed files begin with.
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_ZIP = b"PK\x03\x04"
# Compressed text of at least so many bytes is not larger than so many times its file.
_LARGEST_UNCHECKED, _LARGEST_RATIO = 1 << 26, 64
# utf-8 with or without the byte order mark that spreadsheets write.
_ENCODING = "utf-8-sig"


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Opens a text file for reading: plain, or compressed by gzip, bzip2, xz or zip.

    Raises:
        ValueError: If a zip archive does not hold exactly one CSV file. While it is read, if its
            content is larger than any table's would be.
    """
    with open(path, "rb") as file:
        start = file.read(6)
    if start.startswith(_ZIP):
        with zipfile.ZipFile(path) as archive, archive.open(_only_table(path, archive)) as member:
            yield _as_text(path, member)
        return
    opened: Any = next((o for magic, o in _OPENERS.items() if start.startswith(magic)), None)
    if path.suffix.lower() == ".gz":
        opened = gzip.open  # A file that is none is damaged.
    if opened is None:
        with open(path, encoding=_ENCODING, newline="") as file:
            yield file
        return
    with opened(path, "rb") as file:
        yield _as_text(path, file)


class _Bounded(io.RawIOBase):
    """The content of a compressed file, up to the size that a table may have."""

    def __init__(self, path, stream):
        self._path, self._stream = path, stream
        self._left = max(_LARGEST_UNCHECKED, _LARGEST_RATIO * path.stat().st_size)

    def readable(self):
        return True

    def readinto(self, buffer):
        count = self._stream.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise ValueError(
                f"{self._path} is no table of numbers: its content is more than {_LARGEST_RATIO} "
                "times as large as the file. Get it again; if it is sound, unpack it and give the "
                "path of what it holds"
            )
        return count


def _as_text(path, stream):
    buffered = io.BufferedReader(_Bounded(path, stream), 1 << 16)
    return io.TextIOWrapper(buffered, encoding=_ENCODING, newline="")


def _only_table(path, archive):
    names = archive.namelist()
    # Archives made on a Mac have hidden files beside each one.
    tables = [n for n in names if n.lower().endswith(".csv") and not n.startswith("__MACOSX")]
    if len(tables) != 1:
        raise ValueError(
            f"{path} must hold exactly one CSV file: unpack it and give the path of the file to "
            f"read. Received: an archive of {', '.join(names) or 'nothing'}"
        )
    return tables[0]
