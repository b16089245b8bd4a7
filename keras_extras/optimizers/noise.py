"""Random directions for a population, each kind with mean 0 and variance 1."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

_BITS = 24


def normal(shape: Sequence[int], seed: Any) -> Any:
    """Standard normal numbers."""
    return keras.random.normal(shape, dtype="float32", seed=seed)


def sign(shape: Sequence[int], seed: Any) -> Any:
    """Fair random signs, 24 to each random integer: random numbers are what costs on a CPU."""
    count = math.prod(shape)
    words = keras.random.randint((-(-count // _BITS), 1), 0, 2**_BITS, dtype="int32", seed=seed)
    bits = ops.bitwise_and(ops.bitwise_right_shift(words, ops.arange(_BITS, dtype="int32")), 1)
    signs = 2.0 * ops.cast(bits, "float32") - 1.0
    return ops.reshape(ops.reshape(signs, (-1,))[:count], shape)


NOISE = {"sign": sign, "normal": normal}
