"""TensorFlow Probability of the Keras backend, imported when a distribution is first needed.

On JAX it is TFP's JAX substrate, which needs no TensorFlow, and `tf` is the module in which TFP
gives JAX the names of TensorFlow. What `keras.ops` has is computed with `keras.ops`.
"""

import importlib
from types import ModuleType
from typing import Any

import keras
import numpy as np

from keras_extras._seams.jax_substrate import jax_substrate


def require_probability(owner: str = "A distribution") -> ModuleType:
    """Imports TensorFlow Probability, or says why distributions cannot be had.

    Args:
        owner: What needs it, the start of the error's sentence.

    Raises:
        ImportError: On a Keras backend other than TensorFlow and JAX.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return importlib.import_module("tensorflow_probability")
    if backend == "jax":
        return jax_substrate()
    raise ImportError(
        f"{owner} needs TensorFlow Probability, and Keras on TensorFlow or JAX. Set the "
        "environment variable KERAS_BACKEND to tensorflow or jax before Keras is imported. "
        f"Received: keras.backend.backend()={backend!r}"
    )


class _OnUse:
    """Stands for a part of TensorFlow Probability, imported when an attribute is asked for."""

    def __init__(self, part: str | None = None):
        self._part = part

    def __getattr__(self, attribute: str) -> Any:
        module = require_probability()
        return getattr(getattr(module, self._part) if self._part else module, attribute)


class _NumericsOnUse:
    """Stands for TensorFlow, or for TFP's module of the same names on JAX."""

    def __getattr__(self, attribute: str) -> Any:
        module = require_probability()
        if keras.backend.backend() == "tensorflow":
            return getattr(importlib.import_module("tensorflow"), attribute)
        return getattr(module.tf2jax, attribute)


tf = _NumericsOnUse()
tfp = _OnUse()
tfd = _OnUse("distributions")
tfb = _OnUse("bijectors")


def static_shape(value: Any) -> Any:
    """Returns what is known of the shape of a tensor, with the methods of `tf.TensorShape`."""
    return tf.TensorShape(value.shape)


def joined_shape(*parts: Any) -> Any:
    """Returns a shape put together of parts: a tensor, or a tuple on JAX, where shapes are static.

    Args:
        *parts: Tensors of sizes, or sequences of integers.
    """
    if keras.backend.backend() == "tensorflow":
        return tf.concat([tf.reshape(tf.cast(part, "int32"), [-1]) for part in parts], 0)
    return tuple(int(size) for part in parts for size in np.ravel(part))


def shape_of_draws(distribution: Any) -> Any:
    """Returns the shape of one draw for the whole batch, as `joined_shape` does."""
    return joined_shape(distribution.batch_shape_tensor(), distribution.event_shape_tensor())


def is_floating(dtype: Any) -> bool:
    """Whether a dtype, as of NumPy, TensorFlow or a name, is of real numbers."""
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(dtype))


def stateless_seed(generator: keras.random.SeedGenerator) -> Any:
    """Returns the next seed of a generator for TFP's samplers: stateless for two `int32`."""
    seed = generator.next()
    return keras.ops.cast(seed, "int32") if keras.backend.backend() == "tensorflow" else seed


def seed_of(seed: Any) -> Any:
    """Returns a seed as TFP's samplers take it.

    Args:
        seed: Integer, or a pair of integers or a tensor of two, which draws the same each time.
    """
    if keras.backend.backend() == "tensorflow":
        return seed
    return keras.ops.cast(seed if np.ndim(seed) else (0, seed), "uint32")
