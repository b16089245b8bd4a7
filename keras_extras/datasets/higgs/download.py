"""Downloads the challenge's events from the CERN open data portal, once."""

import hashlib
import os
from pathlib import Path

import keras

# Record 328, 65,630,848 bytes. The checksum is the one that the portal published with the file:
# github.com/cernopendata/opendata.cern.ch, records/atlas-higgs-challenge-2014.json (2017).
ATLAS_URL = "https://opendata.cern.ch/record/328/files/atlas-higgs-challenge-2014-v2.csv.gz"
ATLAS_SHA1 = "639b1dbd97a709a739122a9a5dcd99b49d55d86c"

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
        ValueError: If the downloaded file has another checksum.
    """
    cache_dir = Path(cache_dir or os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    name = url.rpartition("/")[2]
    cached = cache_dir / "datasets" / name
    if cached.exists() and _sha1(cached) == sha1:
        return cached

    temporary_name = f"{name}.{os.getpid()}.part"
    try:
        path = keras.utils.get_file(temporary_name, url, cache_dir=cache_dir, force_download=True)
    except Exception as error:  # the class that `get_file` raises
        raise ConnectionError(f"Could not download {url}: {error}. {_INSTEAD}") from error
    path = Path(path)
    received = _sha1(path)
    if received != sha1:
        path.unlink()
        raise ValueError(
            f"The file downloaded from {url} is damaged or not the one expected, and was deleted: "
            f"its SHA-1 checksum is {received}, expected {sha1}. {_INSTEAD}"
        )
    return path.replace(path.with_name(name))


def _sha1(path):
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
