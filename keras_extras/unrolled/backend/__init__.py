"""The functions of unrolled training that `keras.ops` lacks, of the backend in use.

Each is described in `tensorflow.py`, and `jax.py` has one of the same name.
"""

from typing import Any

from keras_extras._core.backend import backend_module


def __getattr__(name: str) -> Any:
    return getattr(backend_module(__name__, "keras_extras.unrolled"), name)
