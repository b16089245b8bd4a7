"""Downloads the challenge's events from the CERN open data portal, once."""

import contextlib
import hashlib
import http.client
import os
import time
import urllib.request
from pathlib import Path

import keras

from keras_extras._core.files import whole_file
from keras_extras._core.locks import ProcessLock

# Record 328, 65,630,848 bytes. The checksum is the one that the portal published with the file:
# github.com/cernopendata/opendata.cern.ch, records/atlas-higgs-challenge-2014.json (2017).
ATLAS_URL = "https://opendata.cern.ch/record/328/files/atlas-higgs-challenge-2014-v2.csv.gz"
ATLAS_SHA1 = "639b1dbd97a709a739122a9a5dcd99b49d55d86c"

_TIMEOUT = 60  # seconds without a byte
_LARGEST = 1 << 28  # bytes, four times those of the file
_BLOCK = 1 << 16
_INSTEAD = (
    "Try again later, or get the file in another way and pass its path as `source`, "
    'or use the events of source="simulated", which need no file.'
)


def download_atlas_file(
    url: str = ATLAS_URL, sha1: str = ATLAS_SHA1, cache_dir: str | os.PathLike | None = None
) -> Path:
    """Returns the path of the downloaded file, downloading it if it is not in the cache.

    The download goes to a temporary name, and gets its own only after its checksum was verified:
    the cache never holds part of a file under the file's name.

    Args:
        url: Where to get the file.
        sha1: SHA-1 checksum of the file in hexadecimal digits.
        cache_dir: Folder whose subfolder `datasets` holds the file. Defaults to Keras' own,
            `~/.keras` or what the environment variable `KERAS_HOME` names.

    Raises:
        ConnectionError: If the download fails.
        OSError: If the folder cannot be written to, as when the disk is full.
        ValueError: If the downloaded file has another checksum.
    """
    cache_dir = Path(cache_dir or os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    path = cache_dir / "datasets" / url.rpartition("/")[2]
    if path.exists() and _sha1(path) == sha1:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_what_kills_left(path)
        with (
            whole_file(path) as temporary,
            open(temporary, "wb") as file,
            ProcessLock(temporary) as lock,
        ):
            lock.acquire()  # Else another process could take it for one that a kill left.
            _download(url, file)
            received = _sha1(temporary)
            if received != sha1:
                raise ValueError(
                    f"The file downloaded from {url} is damaged or not the one expected, and was "
                    f"deleted: its SHA-1 checksum is {received}, expected {sha1}. {_INSTEAD}"
                )
    except ConnectionError:
        raise
    except OSError as error:
        raise OSError(
            error.errno,
            f"Could not write to the folder {path.parent}: {error.strerror}. Make room, or set the "
            "environment variable KERAS_HOME to a folder that can be written to",
        ) from error
    return path


def _download(url, file):
    try:
        # Without a time limit, a server that falls silent would be waited for forever.
        response = urllib.request.urlopen(url, timeout=_TIMEOUT)
    except (OSError, http.client.HTTPException) as error:
        raise _connection_error(url, error) from error
    with response:
        length = _length(url, response)
        bar = keras.utils.Progbar(length)
        for block in iter(lambda: _read_block(url, response), b""):
            if file.tell() + len(block) > (length or _LARGEST):
                raise _connection_error(url, f"more than {length or _LARGEST} bytes came")
            file.write(block)
            bar.update(file.tell())
    if length is not None and file.tell() != length:
        raise _connection_error(url, f"{file.tell()} of {length} bytes came")
    file.flush()


def _length(url, response):
    """The number of bytes that the server announces; None if it announces none."""
    text = response.headers["Content-Length"]
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) <= _LARGEST):
        raise _connection_error(
            url, f"the server gives a length of {text[:40]!r}, not one of 0 to {_LARGEST} bytes"
        )
    return int(text)


def _read_block(url, response):
    try:
        return response.read(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _connection_error(url, error) from error


def _connection_error(url, reason):
    return ConnectionError(f"Could not download {url}: {reason}. {_INSTEAD}")


def _remove_what_kills_left(path):
    """Parts of the file that nobody writes to."""
    for part in path.parent.glob(f".{path.name}.*.part*"):
        with contextlib.suppress(FileNotFoundError), ProcessLock(part) as lock:
            # A part is made just before it is locked.
            if time.time() - part.stat().st_mtime > 60 and lock.acquire():
                part.unlink()


def _sha1(path):
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
