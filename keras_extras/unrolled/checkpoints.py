"""Training in segments, and the way back through it from states that are kept or computed again."""

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_extras.unrolled import backend
from keras_extras.unrolled.batches import Batches
from keras_extras.unrolled.training_path import TrainingPath, index_tensor
from keras_extras.unrolled.training_step import State, TrainingStep

# Of this many steps each: their states lie in the processor's cache.
_SEGMENT = 64


class CheckpointedPath(TrainingPath):
    """Keeps all steps, or the states before some, from which it trains again on the way back.

    Args:
        step: The `TrainingStep`.
        steps: Integer, their number.
        keep_all: Boolean; if False, the state before each `sqrt(steps)`-th step is kept.
        jit_compile: Boolean, whether segments are compiled with XLA.
        truncate: Integer, how many steps the way back has, from the last on.
    """

    def __init__(
        self, step: TrainingStep, steps: int, keep_all: bool, jit_compile: bool, truncate: int
    ):
        self._step, self._steps, self._keep_all = step, steps, keep_all
        self._skipped = steps - truncate
        self._size = min(truncate, _SEGMENT) if keep_all else math.isqrt(truncate - 1) + 1
        self._segments = -(-truncate // self._size)
        self._train = backend.block(self._train_of, jit_compile)
        self._pull_back = backend.block(self._pull_back_of, jit_compile)

    def forward(
        self, start: State, values: Mapping[str, Any], data: Batches, room: int
    ) -> tuple[State, Any, list]:
        if not room:
            return self._train(0, self._steps, start, values, data, self._steps, False)
        skipped, losses_of_skipped = self._skipped, ops.zeros((0,), self._step.dtype)
        if skipped:
            start, losses_of_skipped, _ = self._train(
                0, skipped, start, values, data, skipped, False
            )
        losses = backend.array(self._step.dtype, self._segments, (self._size,))
        shape = (self._size,) if self._keep_all else ()
        kept = _arrays(self._kept_of(start), self._segments, shape)

        def body(k, state, losses, kept):
            first, end = self._limits(k)
            after, found, record = self._train(
                first, end, state, values, data, self._size, self._keep_all
            )
            kept = _write(kept, k, record if self._keep_all else state)
            return k + 1, after, losses.write(k, found), kept

        _, state, losses, kept = backend.while_loop(
            lambda k, *_: k < self._segments, body, (index_tensor(0), start, losses, kept)
        )
        losses = ops.concatenate([losses_of_skipped, losses.concat()])
        return state, losses[: self._steps], kept

    def backward(
        self, adjoint: State, record: list, start: State, values: Mapping[str, Any], data: Batches
    ) -> tuple[State, dict[str, Any], Any]:
        def body(k, adjoint, totals):
            first, end = self._limits(k)
            kept = [array.read(k) for array in record]
            if not self._keep_all:
                state = keras.tree.pack_sequence_as(start, kept)
                _, _, kept = self._train(first, end, state, values, data, self._size, True)
            adjoint, found = self._pull_back(first, end, kept, adjoint, values, data)
            return k - 1, adjoint, self._step.add_gradients(totals, found, k, None)

        totals = self._step.no_gradients(values, self._segments, (self._size,))
        _, adjoint, totals = backend.while_loop(
            lambda k, *_: k >= 0, body, (index_tensor(self._segments - 1), adjoint, totals)
        )
        found = self._step.collected(totals, self._steps - self._skipped, self._skipped)
        return adjoint, found, ops.convert_to_tensor(True)

    def _limits(self, segment):
        first = self._skipped + segment * self._size
        return first, ops.minimum(first + self._size, self._steps)

    def _kept_of(self, state):
        return (state, state.weights) if self._keep_all else state

    def _train_of(self, first, end, state, values, data, size, keep):
        """Final state and losses; with `keep` the states before the steps and their gradients."""
        record = _arrays((state, state.weights), size) if keep else []
        losses = backend.array(self._step.dtype, size, ())

        def body(t, state, losses, record):
            after, loss, gradients = self._step.advance(t, state, values, data)
            record = _write(record, t - first, (state, gradients))
            return t + 1, after, losses.write(t - first, loss), record

        _, state, losses, record = backend.while_loop(
            lambda t, *_: t < end, body, (index_tensor(first), state, losses, record)
        )
        return state, losses.stack(), [array.stack() for array in record]

    def _pull_back_of(self, first, end, record, adjoint, values, data):
        like = (adjoint, adjoint.weights)

        def body(t, adjoint, totals):
            now = [backend.gather(tensor, t - first) for tensor in record]
            state, gradients = keras.tree.pack_sequence_as(like, now)
            adjoint, found = self._step.pull_back(t, state, gradients, adjoint, values, data)
            totals = self._step.add_gradients(
                totals, found, t - first, backend.gather(data.order, t)
            )
            return t - 1, adjoint, totals

        totals = self._step.no_gradients(values, self._size)
        _, adjoint, totals = backend.while_loop(
            lambda t, *_: t >= first, body, (end - 1, adjoint, totals)
        )
        return adjoint, self._step.collected(totals, self._size)


def _arrays(state, size, shape=()):
    """An array for each tensor of states, or of `shape` states at once."""
    return [backend.array(t.dtype, size, (*shape, *t.shape)) for t in keras.tree.flatten(state)]


def _write(arrays, index, state):
    return [array.write(index, t) for array, t in zip(arrays, keras.tree.flatten(state))]
