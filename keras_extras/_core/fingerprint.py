"""A hash of arrays that is the same in every process."""

import hashlib
from typing import Any

import keras
import numpy as np


def fingerprint(values: Any) -> str:
    """Returns a hash of a structure of arrays: of shapes, types and every entry."""
    found = hashlib.blake2b(digest_size=16)
    for leaf in keras.tree.flatten(values):
        array = np.asarray(leaf)
        found.update(f"{array.shape} {array.dtype}".encode())
        # The bytes of objects are their addresses.
        is_object = array.dtype == object
        found.update(repr(array.tolist()).encode() if is_object else array.tobytes())
    return found.hexdigest()
