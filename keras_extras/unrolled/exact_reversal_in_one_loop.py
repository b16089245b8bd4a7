"""Exact reversal where compilers round the same step differently in two places."""

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_extras.unrolled import backend, exact_reversal
from keras_extras.unrolled.batches import Batches
from keras_extras.unrolled.exact_reversal import DENOMINATOR, FULL, Buffer, ReversiblePath
from keras_extras.unrolled.training_path import index_tensor
from keras_extras.unrolled.training_step import ADJOINT_NORM, State


class ReversiblePathInOneLoop(ReversiblePath):
    """A `ReversiblePath` in one loop, whose gradients are the same instructions both ways."""

    def context(self) -> contextlib.AbstractContextManager:
        return backend.integers_of_64_bits()

    def room(self, values: Mapping[str, Any]) -> int:
        """Returns how many words of each weight are set aside, or some more."""
        momentum = values.get("momentum", self._step.rule.settings["momentum"])
        momenta = np.broadcast_to(np.asarray(momentum, "float32"), self._steps)
        # A power of two, because each number is compiled separately.
        return 2 ** math.ceil(math.log2(words_set_aside(exact_reversal.numerators_of(momenta)) + 1))

    def forward_and_backward(
        self,
        start: State,
        values: Mapping[str, Any],
        data: Batches,
        room: int,
        pull_back_validation: Callable[[State], tuple[Any, State]],
    ) -> tuple[Any, Any, State, dict[str, Any], Any]:
        steps = self._steps
        initial = exact_reversal.to_fixed(start.weights)
        zeros = [ops.zeros_like(w) for w in initial]
        # Of the right shapes, until there is something.
        loss, adjoint = keras.tree.map_structure(ops.zeros_like, pull_back_validation(start))

        def both_ways(k, state):
            is_back = k >= steps
            t = backend.where(is_back, 2 * steps - 1 - k, k)
            final = self._state(state.weights, state.velocities)
            loss, adjoint = ops.cond(
                k == steps,
                lambda: pull_back_validation(final),
                lambda: (state.loss, state.adjoint),
            )
            weights = [
                backend.where(is_back, w - v, w) for w, v in zip(state.weights, state.velocities)
            ]
            updates, loss_of_step = self._updates(t, weights, values, data)
            velocities, buffer = _times_momentum(
                is_back, t, self._numerator(t, values), state.velocities, updates, state.buffer
            )

            rows = backend.gather(data.order, t)
            taken = self._step.values_at(values, t, rows)
            taken[ADJOINT_NORM] = loss
            adjoint, found = ops.cond(
                is_back,
                lambda: self._pull_back(t, weights, velocities, adjoint, values, data),
                lambda: (adjoint, keras.tree.map_structure(ops.zeros_like, taken)),
            )
            moves = [v - u for v, u in zip(velocities, updates)]
            return k + 1, _Training(
                weights=[backend.where(is_back, w, w + m) for w, m in zip(weights, moves)],
                velocities=[backend.where(is_back, v, m) for v, m in zip(velocities, moves)],
                buffer=buffer,
                losses=state.losses.write(t, loss_of_step),
                totals=self._step.add_gradients(state.totals, found, t, rows),
                loss=loss,
                adjoint=adjoint,
            )

        state = _Training(
            weights=initial,
            velocities=zeros,
            buffer=Buffer.empty(zeros, steps, room),
            losses=backend.array(self._step.dtype, steps, ()),
            totals=self._step.no_gradients(values, steps),
            loss=loss,
            adjoint=adjoint,
        )
        _, state = backend.while_loop(
            lambda k, _: k < 2 * steps, both_ways, (index_tensor(0), state)
        )
        gradients = self._step.collected(state.totals, steps)
        returned = exact_reversal.has_returned(initial, state.weights, state.velocities)
        return state.loss, state.losses.stack(), state.adjoint, gradients, returned


class _Training(NamedTuple):
    """State of training, on the way forward and on the way back.

    Attributes:
        weights: List of tensors of fixed-point numbers.
        velocities: Likewise, those of the momentum.
        buffer: The `Buffer` of what products with the momentum would lose.
        losses: Array of the losses of the steps.
        totals: Gradients of the hyperparameters so far.
        loss: The validation loss, from the turn on.
        adjoint: The gradient of the validation loss by the weights and velocities, likewise.
    """

    weights: list[Any]
    velocities: list[Any]
    buffer: Buffer
    losses: Any
    totals: Any
    loss: Any
    adjoint: State


def _times_momentum(is_back, t, numerator, velocities, updates, buffer):
    """Velocities times the momentum and the buffer after step `t`; on the way back both before."""
    is_full = backend.where(is_back, buffer.is_full.read(t), buffer.bound > FULL)
    bound = buffer.next_bound(is_full, numerator)
    aside, count, words = backend.push_if(
        is_full & ~is_back, buffer.aside, buffer.count, buffer.words
    )
    velocities, words = ops.cond(
        is_back,
        lambda: _columns(
            exact_reversal.divide(v + u, b, numerator)
            for v, u, b in zip(velocities, updates, words)
        ),
        lambda: _columns(
            exact_reversal.multiply(v, b, numerator) for v, b in zip(velocities, words)
        ),
    )
    count, words = backend.pop_if(is_full & is_back, aside, count, words)
    bound = backend.where(is_back, buffer.bound, bound)
    return velocities, Buffer(words, bound, aside, count, buffer.is_full.write(t, is_full))


def words_set_aside(numerators: Iterable[float]) -> int:
    """Returns how often a `Buffer` is full in steps with these numerators."""
    count, bound = 0, 1.0
    for numerator in numerators:
        if bound > FULL:
            count, bound = count + 1, 1.0
        bound = bound * (DENOMINATOR / numerator) + 1.0
    return count


def _columns(pairs):
    """A pair of lists."""
    return tuple(map(list, zip(*pairs)))
