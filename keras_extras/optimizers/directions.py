"""Random directions for a population, each kind with mean 0 and variance 1.

A direction has an entry for each weight. What is drawn here has an axis of directions in front.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

_BITS = 24
# Longer codes cost more memory than they gain.
_MAX_CODE = 1024


def normal(count: int, shapes: Sequence[tuple[int, ...]], seed: Any) -> list[Any]:
    """Standard normal numbers."""
    return [keras.random.normal((count, *shape), dtype="float32", seed=seed) for shape in shapes]


def sign(count: int, shapes: Sequence[tuple[int, ...]], seed: Any) -> list[Any]:
    """Fair random signs, independent of each other."""
    size = sum(math.prod(shape) for shape in shapes)
    return _split(ops.reshape(_signs(count * size, seed), (count, size)), shapes)


def orthogonal(count: int, shapes: Sequence[tuple[int, ...]], seed: Any) -> list[Any]:
    """Random signs whose directions are orthogonal, so that none measures what another did.

    The weights are split into blocks, and each weight of a block has a row of a Hadamard matrix of
    its own as its signs over the directions; which one is drawn anew for each block, and each
    weight draws a sign for its row. Directions are orthogonal to each other as far as whole blocks
    go, and with at least as many directions as weights a difference quotient is exact.

    Choromanski et al. (2018), "Structured evolution with compact architectures for scalable policy
    optimization", [arXiv:1804.02395](https://arxiv.org/abs/1804.02395), compare such directions
    with independent ones.
    """
    size = sum(math.prod(shape) for shape in shapes)
    length = min(_power_of_two(count), _power_of_two(size), _MAX_CODE)
    blocks, batches = -(-size // length), -(-count // length)
    code = _hadamard(length)
    # The product of two rows is the row of their indices' XOR: a row drawn for each block
    # exchanges the rows of its weights.
    row = keras.random.randint((batches, blocks), 0, length, dtype="int32", seed=seed)
    of_block = ops.transpose(ops.take(ops.convert_to_tensor(code), row, axis=0), (0, 2, 1))
    of_weight = ops.reshape(_signs(batches * blocks * length, seed), (batches, 1, blocks, length))
    directions = code[:, None, :] * of_block[..., None] * of_weight
    directions = ops.reshape(directions, (batches * length, blocks * length))
    return _split(directions[:count], shapes)


def _split(directions, shapes):
    """The entries of each variable, of an array of shape `(count, at least all entries)`."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [
        ops.reshape(directions[:, end - math.prod(shape) : end], (-1, *shape))
        for end, shape in zip(ends, shapes)
    ]


def _signs(count, seed):
    """Fair random signs, 24 to each random integer: random numbers are what costs on a CPU."""
    words = keras.random.randint((-(-count // _BITS), 1), 0, 2**_BITS, dtype="int32", seed=seed)
    bits = ops.bitwise_and(ops.bitwise_right_shift(words, ops.arange(_BITS, dtype="int32")), 1)
    return ops.reshape(2.0 * ops.cast(bits, "float32") - 1.0, (-1,))[:count]


def _power_of_two(number):
    """The least power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()


def _hadamard(order):
    """The Hadamard matrix of Sylvester, whose rows and columns are orthogonal."""
    matrix = np.ones((1, 1), "float32")
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


DIRECTIONS: dict[str, Callable[[int, Sequence[tuple[int, ...]], Any], list[Any]]] = {
    "orthogonal": orthogonal,
    "sign": sign,
    "normal": normal,
}
