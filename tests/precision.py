"""How precise the backend is that the tests run on."""

import keras
import pytest

try:
    import tensorflow as tf
except ImportError:  # On JAX the tests run without it, too.
    tf = None

ON_JAX = keras.backend.backend() == "jax"
# On JAX Keras' operations compute in single precision, whatever they are asked for.
WIDE = "float32" if ON_JAX else "float64"

needs_float64 = pytest.mark.skipif(ON_JAX, reason="Keras on JAX has no double precision")
needs_tensorflow = pytest.mark.skipif(ON_JAX, reason="stands on TensorFlow")


def tolerance(double: float, single: float) -> float:
    """The one that fits `WIDE`."""
    return single if ON_JAX else double
