"""The method by which Keras' trainer builds a model, its losses and metrics before training.

Wrapped is `_maybe_symbolic_build` on TensorFlow and `_symbolic_build` on JAX, which are private,
and `fit` has no other place that sees the iterator of batches or replaces what a model is built
from. Known to hold since Keras 3.12. A `Model.build_from_data` that may be overridden would make it
unnecessary.
"""

from collections.abc import Callable

import keras

from keras_extras._seams.wrapped_methods import wrap_once


def symbolic_build_name() -> str:
    """Returns the name of the method on Keras' backend."""
    return "_symbolic_build" if keras.backend.backend() == "jax" else "_maybe_symbolic_build"


def wrap_symbolic_build(wrap: Callable[[Callable], Callable], key: str) -> None:
    """Wraps the method, once.

    Args:
        wrap: Function from the method to its replacement, both with the arguments `iterator` and
            `data_batch`.
        key: String, the name of the module that asks.
    """
    wrap_once(keras.Model, symbolic_build_name(), wrap, key)
