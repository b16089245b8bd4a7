"""Copies of distributions in float64, where TFP's float32 functions are too coarse.

Incomplete gamma functions of large shapes, for one, err by a third of a standard deviation.
Functions that use these copies compute with `tf`, as Keras' operations on JAX know no float64.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_extras._core.backend import is_compiling
from keras_extras._core.distribution_kinds import unwrap
from keras_extras._core.precision import widest_float
from keras_extras._core.probability import is_floating, tf, tfd


def double_precision() -> contextlib.AbstractContextManager[Any]:
    """Returns a context in which JAX has float64, except in a program that is being compiled."""
    if keras.backend.backend() != "jax" or is_compiling():
        return contextlib.nullcontext()
    import jax

    return jax.enable_x64(True)


def in_double(function: Callable, distribution: Any) -> Any:
    """Returns `function` of a copy of a distribution in float64.

    Where the distribution has no such copy, for instance since a bijector holds float32 tensors,
    or the backend no float64, it is `function` of the distribution itself.

    Args:
        function: From a distribution to a tensor.
        distribution: A `tfd.Distribution`.
    """
    if widest_float() != "float64":
        return function(distribution)
    # What TFP and the backend raise where precisions meet.
    mixed = (TypeError, ValueError, AttributeError, tf.errors.InvalidArgumentError)
    try:
        copy = _copy(distribution)
    except (*mixed, NotImplementedError):  # It does not say what its parameters are.
        return function(distribution)
    try:
        return function(copy)
    except mixed:
        return function(distribution)


def _copy(distribution):
    distribution = unwrap(distribution)
    names = type(distribution).parameter_properties()
    given = {name: distribution.parameters.get(name) for name in names}
    return distribution.copy(**{name: _cast(v) for name, v in given.items() if v is not None})


def _cast(value):
    if isinstance(unwrap(value), tfd.Distribution):
        return _copy(value)
    if isinstance(value, list | tuple) and value and isinstance(unwrap(value[0]), tfd.Distribution):
        return [_copy(one) for one in value]
    if not hasattr(value, "dtype"):
        value = np.asarray(value)
    return tf.cast(value, "float64") if is_floating(value.dtype) else value
