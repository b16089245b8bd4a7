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
# utf-8 with or without the byte order mark that spreadsheets write.
_ENCODING = "utf-8-sig"


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Opens a text file for reading: plain, or compressed by gzip, bzip2, xz or zip.

    Raises:
        ValueError: If a zip archive does not hold exactly one CSV file.
    """
    with open(path, "rb") as file:
        start = file.read(6)
    if start.startswith(_ZIP):
        with zipfile.ZipFile(path) as archive, archive.open(_only_table(path, archive)) as member:
            yield io.TextIOWrapper(member, encoding=_ENCODING, newline="")
        return
    opened: Any = next((o for magic, o in _OPENERS.items() if start.startswith(magic)), open)
    if path.suffix.lower() == ".gz":
        opened = gzip.open  # A file that is none is damaged.
    with opened(path, "rt", encoding=_ENCODING, newline="") as file:
        yield file


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
