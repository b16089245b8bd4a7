"""IntegerCandidates: pairs of candidates on either side of integers, drawn from seeds."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.stateless import substituted
from keras_extras.optimizers.integer_weights import IntegerWeight

# How far the candidates of a scale are from it, relative to it.
_SCALE_WIDTH = 0.02


class IntegerCandidates:
    """The candidates of one update.

    A change has a tensor for each weight matrix, and for each of their scales if these are
    searched. Each chunk of pairs has its own seed, from which it is redrawn once the losses are
    known.

    Args:
        weights: The weights.
        with_scales: Boolean, whether scales are searched.
        probability: Float, the share of the integers that differ, more in small matrices.
        seed_generator: A `keras.random.SeedGenerator`.
    """

    def __init__(
        self,
        weights: Sequence[IntegerWeight],
        with_scales: bool,
        probability: float,
        seed_generator: keras.random.SeedGenerator,
    ):
        self._weights = list(weights)
        self._scales = [w.scale for w in weights] if with_scales else []
        self._shares = [w.share(probability) for w in weights]
        self._generator = seed_generator
        self._first = ops.copy(seed_generator.state)
        self._chunks = 0
        self._pairs = 0
        self._here = [w.integers() for w in weights]
        self.shapes = [*(w.shape for w in weights), *(tuple(s.shape) for s in self._scales)]

    def stored(self, changes: Sequence[Any]) -> list[Any]:
        """Returns what the variables hold at a change."""
        count = len(self._weights)
        values = []
        for weight, here, change in zip(self._weights, self._here, changes):
            # In more than eight bits, whose ends are on the grid.
            moved = ops.cast(here, "int32") + weight.stride * ops.cast(change, "int32")
            values.append(
                weight.stored(ops.cast(ops.clip(moved, weight.lowest, weight.highest), "int8"))
            )
        for scale, change in zip(self._scales, changes[count:]):
            factor = ops.exp(_SCALE_WIDTH * ops.cast(change, "float32"))
            values.append(ops.copy(scale) * ops.cast(factor, scale.dtype))
        return values

    def slopes(
        self, losses_of: Callable[[Sequence[Any]], Any], pairs: int, at_once: int
    ) -> tuple[Any, Any]:
        """Returns half the difference of the losses of each pair, 0 where one is not finite.

        Args:
            losses_of: Function from changes, with an axis of candidates in front, to losses.
            pairs: Integer, how many pairs.
            at_once: Integer, how many of them to evaluate at once, a divisor of `pairs`.

        Returns:
            Tensor of shape `(chunks, at_once)`, and booleans of that shape for pairs with a loss
            that is not finite.
        """
        self._pairs, self._chunks = at_once, pairs // at_once

        def of_chunk(chunk):
            changes = [self._draw(i, chunk) for i in range(len(self.shapes))]
            both = [ops.concatenate([c, -c]) for c in changes]
            plus, minus = ops.split(losses_of(both), 2)
            return (plus - minus) / 2

        if self._chunks == 1:
            slopes = of_chunk(ops.convert_to_tensor(0))[None]
        else:
            slopes = ops.map(of_chunk, ops.arange(self._chunks))
        is_bad = ~ops.isfinite(slopes)
        return ops.where(is_bad, 0.0, slopes), is_bad

    def gradient(self, index: int, slopes: Any) -> Any:
        """Returns the estimated gradient for one of `shapes`, in strides of its weight.

        Args:
            index: Integer, which one.
            slopes: Those of `slopes`.
        """

        def of_chunk(chunk):
            change = ops.cast(self._draw(index, chunk), "float32")
            return ops.tensordot(ops.take(slopes, chunk, axis=0), change, axes=1)

        if self._chunks == 1:
            total = of_chunk(ops.convert_to_tensor(0))
        else:
            total = ops.fori_loop(
                0,
                self._chunks,
                lambda chunk, total: total + of_chunk(chunk),
                ops.zeros(self.shapes[index], "float32"),
            )
        is_integer = index < len(self._weights)
        variance = self._shares[index] if is_integer else _SCALE_WIDTH
        return total / (self._chunks * self._pairs * variance)

    def uniform(self, index: int) -> Any:
        """Returns random numbers in [0, 1), one for each entry of one of `shapes`."""
        return self._uniform(self.shapes[index], len(self.shapes) * self._chunks + index)

    def end(self) -> None:
        """Lets the seeds of the next update follow on those of this one."""
        self._generator.state.assign(self._seed(len(self.shapes) * (self._chunks + 1)))

    def _draw(self, index, chunk):
        """Changes of a chunk, of shape `(pairs, *shape)`."""
        shape = (self._pairs, *self.shapes[index])
        uniform = self._uniform(shape, index * self._chunks + chunk)
        if index >= len(self._weights):
            return ops.where(uniform < 0.5, -1.0, 1.0)
        half = self._shares[index] / 2
        up, down = (ops.cast(uniform < p, "int8") for p in (half, 2 * half))
        return 2 * up - down  # 1 below the half, -1 from there on, 0 beyond the whole

    def _uniform(self, shape, number):
        with substituted([(self._generator.state, self._seed(number))]):
            return keras.random.uniform(shape, dtype="float32", seed=self._generator)

    def _seed(self, number):
        number = ops.cast(number, self._first.dtype)
        return self._first + ops.stack([ops.zeros_like(number), number])
