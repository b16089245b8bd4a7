"""What derivatives of models and trainings need beside `keras.ops`, of the backend in use.

Each name is that of a function in `tensorflow.py`, where it is described, and in `jax.py`.
"""

from typing import Any

from keras_extras._core.backend import backend_module


def __getattr__(name: str) -> Any:
    return getattr(backend_module(__name__, "keras_extras.autodiff"), name)
