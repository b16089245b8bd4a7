"""Random directions for a population, each kind with mean 0 and variance 1.

A direction has an entry for each weight: for each variable a tensor, or the two factors of one.
What is drawn here has an axis of directions in front.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.flat_vectors import split_entries
from keras_extras._seams.low_rank_kernels import RankOne

_BITS = 24
# Longer codes cost more memory than they gain.
_MAX_CODE = 1024


class Directions:
    """The directions of one generation, drawn chunk by chunk; to be overridden.

    Args:
        count: Integer, how many directions there are.
        shapes: The shapes of the variables.
        seed: A `keras.random.SeedGenerator`.
    """

    def __init__(self, count: int, shapes: Sequence[tuple[int, ...]], seed: Any):
        self.count = count
        self.shapes = list(shapes)
        self.size = sum(math.prod(shape) for shape in shapes)
        self.seed = seed

    def draw(self, start: Any, count: int) -> list[Any]:
        """Returns directions `start` to `start + count`, of shape `(count, *shape)` each."""
        raise NotImplementedError


class Normal(Directions):
    """Standard normal numbers."""

    def draw(self, start: Any, count: int) -> list[Any]:
        return [
            keras.random.normal((count, *shape), dtype="float32", seed=self.seed)
            for shape in self.shapes
        ]


class Sign(Directions):
    """Fair random signs, independent of each other."""

    def draw(self, start: Any, count: int) -> list[Any]:
        signs = _signs(count * self.size, self.seed)
        return split_entries(ops.reshape(signs, (count, self.size)), self.shapes)


class Orthogonal(Directions):
    """Random signs whose directions are orthogonal, so that none measures what another did.

    The weights are split into blocks, and each weight of a block has another row of a Hadamard
    matrix as its signs over the directions; which one is drawn for each block, and each weight
    draws a sign for its row. Directions are orthogonal to each other as far as whole blocks
    go. If their number is a multiple of the least power of two that is not below the number of
    weights, a difference quotient is exact.

    Choromanski et al. (2018), "Structured evolution with compact architectures for scalable policy
    optimization", [arXiv:1804.02395](https://arxiv.org/abs/1804.02395), compare such directions
    with independent ones.
    """

    def __init__(self, count: int, shapes: Sequence[tuple[int, ...]], seed: Any):
        super().__init__(count, shapes, seed)
        length = min(_power_of_two(count), _power_of_two(self.size), _MAX_CODE)
        self._code = ops.convert_to_tensor(_hadamard(length))
        self._blocks, batches = -(-self.size // length), -(-count // length)
        # The product of two rows is the row of their indices' XOR: a row drawn for each block
        # exchanges the rows of its weights.
        self._row = keras.random.randint(
            (batches, self._blocks), 0, length, dtype="int32", seed=seed
        )
        signs = _signs(batches * self._blocks * length, seed)
        self._sign = ops.reshape(signs, (batches, self._blocks, length))

    def draw(self, start: Any, count: int) -> list[Any]:
        length = self._code.shape[0]
        index = start + ops.arange(count, dtype="int32")
        batch = ops.minimum(index // length, self._row.shape[0] - 1)
        code = ops.take(self._code, index % length, axis=0)
        of_block = ops.take_along_axis(code, ops.take(self._row, batch, axis=0), axis=1)
        signs = self._sign[0] if self._row.shape[0] == 1 else ops.take(self._sign, batch, axis=0)
        directions = code[:, None, :] * of_block[..., None] * signs
        return split_entries(ops.reshape(directions, (count, self._blocks * length)), self.shapes)


class LowRank(Directions):
    """Random signs of rank one: a matrix is a column times a row, both of random signs.

    Far fewer random numbers, and layers with such a change of their kernel share most of their
    work. Columns are orthogonal to each other, and with them the directions. All axes of a kernel
    but its last count as rows.

    The idea of low-rank populations is that of "Evolution strategies at the hyperscale" (2025),
    [arXiv:2511.16652](https://arxiv.org/abs/2511.16652).
    """

    def __init__(self, count: int, shapes: Sequence[tuple[int, ...]], seed: Any):
        super().__init__(count, shapes, seed)
        matrices = [shape for shape in self.shapes if len(shape) > 1]
        columns = [(*s[:-1], 1) if len(s) > 1 else s for s in self.shapes]
        self._columns = _least_dependent(count)(count, columns, seed)
        self._rows = Sign(count, [(1,) * (len(s) - 1) + s[-1:] for s in matrices], seed)

    def draw(self, start: Any, count: int) -> list[Any]:
        rows = iter(self._rows.draw(start, count) if self._rows.shapes else ())
        return [
            RankOne(columns, next(rows)) if len(shape) > 1 else columns
            for shape, columns in zip(self.shapes, self._columns.draw(start, count))
        ]


def _least_dependent(count):
    return Sign if count == 1 else Orthogonal


def draw_directions(
    noise: str, count: int, shapes: Sequence[tuple[int, ...]], seed: Any
) -> Directions:
    """Returns the directions of one generation, of a kind of `DIRECTIONS`."""
    kind = _least_dependent(count) if noise == "orthogonal" else DIRECTIONS[noise]
    return kind(count, shapes, seed)


def dense(entry: Any) -> Any:
    """Returns the entries of a variable as one tensor."""
    return entry.product if isinstance(entry, RankOne) else entry


def scaled(entry: Any, factor: Any) -> Any:
    """Returns `factor` times the entries of a variable."""
    if isinstance(entry, RankOne):
        return RankOne(factor * entry.left, entry.right)
    return factor * entry


def mirrored(entries: Any) -> Any:
    """Returns directions followed by their opposites."""
    if isinstance(entries, RankOne):
        left, right = entries
        return RankOne(ops.concatenate([left, -left]), ops.concatenate([right, right]))
    return ops.concatenate([entries, -entries])


def weighted_sum(weights: Any, entries: Any) -> Any:
    """Returns the sum of directions, each times its weight."""
    if not isinstance(entries, RankOne):
        return ops.tensordot(weights, entries, axes=1)
    count = weights.shape[0]
    left = ops.reshape(entries.left, (count, -1)) * weights[:, None]
    right = ops.reshape(entries.right, (count, -1))
    shape = (*entries.left.shape[1:-1], right.shape[-1])
    return ops.reshape(ops.matmul(ops.transpose(left), right), shape)


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


DIRECTIONS = {"orthogonal": Orthogonal, "sign": Sign, "normal": Normal, "low_rank": LowRank}
