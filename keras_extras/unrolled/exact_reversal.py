"""Training with momentum in integers, which can be undone bit for bit (Maclaurin et al., 2015).

Weights and velocities are fixed-point numbers, int64 in units of `2 ** -FRACTION_BITS`. A step

    v <- v * n / d - u(w),    w <- w + v,    u(w) = round(learning_rate * gradient of L at w)

is undone in the reverse order, because u(w) can be computed again once w is back. Only the product
with the momentum n / d, d = 2 ** MOMENTUM_BITS, loses something: `log2(d / n)` bits of each weight.
They go to a buffer (algorithm 3 of arXiv:1502.03492), an integer for each weight that is set aside
when it is full. That is all that grows with the number of steps: with a momentum of 0.9, one word
of 64 bits for each weight in about 300 steps. In return the buffer fills the last MOMENTUM_BITS of
a product with what was lost before, an error of at most `2 ** (MOMENTUM_BITS - FRACTION_BITS)`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_extras.unrolled import backend
from keras_extras.unrolled.batches import Batches
from keras_extras.unrolled.training_path import TrainingPath, index_tensor
from keras_extras.unrolled.training_step import State, TrainingStep
from keras_extras.unrolled.update_rules import UpdateRule

FRACTION_BITS = 48
MOMENTUM_BITS = 12
DENOMINATOR = 2**MOMENTUM_BITS
# A word below this can be multiplied by the denominator and still holds a sign.
FULL = 2.0 ** (62 - MOMENTUM_BITS)
# Weights and their changes up to here leave room for sums.
_LARGEST = 2.0 ** (60 - FRACTION_BITS)


def reversible(rule: UpdateRule) -> UpdateRule:
    """Returns the rule with a momentum that is a fraction, if it can be reversed.

    Raises:
        ValueError: If it is not SGD with momentum.
    """
    if rule.name != "SGD with momentum":
        raise ValueError(
            '`memory="reversal"` needs `optimizer` to be SGD with momentum, whose steps can be '
            'undone; take memory="checkpoints". '
            f"Received: {rule.name}"
        )
    momentum = numerators_of(rule.settings["momentum"]) / DENOMINATOR
    return replace(rule, settings={**rule.settings, "momentum": momentum})


def numerators_of(momentum: Any) -> np.ndarray:
    """Returns the numerators n of the fractions n / d that momenta are rounded to."""
    return np.clip(np.rint(np.multiply(momentum, DENOMINATOR)), 1, DENOMINATOR - 1)


def multiply(value: Any, buffer: Any, numerator: Any) -> tuple[Any, Any]:
    """Returns `value * numerator / d`, and the buffer with what that drops."""
    buffer = buffer * DENOMINATOR + value % DENOMINATOR
    value = value // DENOMINATOR * numerator + buffer % numerator
    return value, buffer // numerator


def divide(value: Any, buffer: Any, numerator: Any) -> tuple[Any, Any]:
    """Undoes `multiply`."""
    buffer = buffer * numerator + value % numerator
    value = value // numerator * DENOMINATOR + buffer % DENOMINATOR
    return value, buffer // DENOMINATOR


def to_fixed(values: list) -> list:
    """Returns tensors in fixed point."""
    return [ops.cast(ops.round(v * 2.0**FRACTION_BITS), "int64") for v in values]


def to_float(values: list, dtype: str) -> list:
    """Returns tensors of a float type from fixed point."""
    return [ops.cast(v, dtype) * 2.0**-FRACTION_BITS for v in values]


def has_returned(initial: list, weights: list, velocities: list) -> Any:
    """Returns whether integers are those at the start."""
    equal = [ops.all(a == b) for a, b in zip(initial, weights)]
    return ops.all(ops.stack([*equal, *(ops.all(v == 0) for v in velocities)]))


class ReversiblePath(TrainingPath):
    """Runs training in integers, and undoes it on the way back.

    Args:
        step: A `TrainingStep` with a `reversible` rule.
        steps: Integer, their number.
        jit_compile: Boolean, whether single steps are compiled with XLA.
    """

    def __init__(self, step: TrainingStep, steps: int, jit_compile: bool):
        self._step, self._steps = step, steps
        # XLA would round a step in a longer function otherwise on the way back.
        self._updates = backend.block(self._updates_of, jit_compile)
        self._pull_back = backend.block(self._pull_back_of, jit_compile)

    def prepare(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the hyperparameters with momenta rounded to n / d, n = 1 ... d - 1."""
        if "momentum" not in values:
            return dict(values)
        numerators = ops.round(values["momentum"] * DENOMINATOR)
        numerators = ops.clip(numerators, 1.0, DENOMINATOR - 1.0)
        return {**values, "momentum": numerators / DENOMINATOR}

    def forward(
        self, start: State, values: Mapping[str, Any], data: Batches, room: int
    ) -> tuple[State, Any, tuple]:
        steps = self._steps
        initial = to_fixed(start.weights)
        zeros = [ops.zeros_like(w) for w in initial]
        losses = backend.array(self._step.dtype, steps, ())

        def body(t, weights, velocities, buffer, losses):
            updates, loss = self._updates(t, weights, values, data)
            numerator = self._numerator(t, values)
            buffer = buffer.make_room(t, numerator) if room else buffer
            products = [multiply(v, b, numerator) for v, b in zip(velocities, buffer.words)]
            velocities = [product - u for (product, _), u in zip(products, updates)]
            weights = [w + v for w, v in zip(weights, velocities)]
            buffer = buffer._replace(words=[word for _, word in products] if room else zeros)
            return t + 1, weights, velocities, buffer, losses.write(t, loss)

        _, weights, velocities, buffer, losses = backend.while_loop(
            lambda t, *_: t < steps,
            body,
            (index_tensor(0), initial, zeros, Buffer.empty(zeros, steps, room), losses),
        )
        record = initial, weights, velocities, buffer
        return self._state(weights, velocities), losses.stack(), record

    def backward(
        self, adjoint: State, record: tuple, start: State, values: Mapping[str, Any], data: Batches
    ) -> tuple[State, dict[str, Any], Any]:
        initial, weights, velocities, buffer = record
        steps = self._steps
        totals = self._step.no_gradients(values, steps)

        def body(t, weights, velocities, buffer, adjoint, totals):
            weights, velocities, buffer = self.undo(t, weights, velocities, buffer, values, data)
            adjoint, found = self._pull_back(t, weights, velocities, adjoint, values, data)
            totals = self._step.add_gradients(totals, found, t, backend.gather(data.order, t))
            return t - 1, weights, velocities, buffer, adjoint, totals

        last = index_tensor(steps - 1)
        _, weights, velocities, _, adjoint, totals = backend.while_loop(
            lambda t, *_: t >= 0, body, (last, weights, velocities, buffer, adjoint, totals)
        )
        returned = has_returned(initial, weights, velocities)
        return adjoint, self._step.collected(totals, steps), returned

    def undo(
        self,
        step: Any,
        weights: list,
        velocities: list,
        buffer: "Buffer",
        values: Mapping[str, Any],
        data: Batches,
    ) -> tuple[list, list, "Buffer"]:
        """Returns weights, velocities and buffer as they were before a step."""
        weights = [w - v for w, v in zip(weights, velocities)]
        updates, _ = self._updates(step, weights, values, data)
        numerator = self._numerator(step, values)
        quotients = [
            divide(v + u, b, numerator) for v, u, b in zip(velocities, updates, buffer.words)
        ]
        velocities, words = (list(column) for column in zip(*quotients))
        return weights, velocities, buffer._replace(words=words).take_back(step)

    def _numerator(self, step, values):
        at = {
            h.name: h.at(values[h.name], step, None)
            for h in self._step.hyperparameters
            if h.kind == "momentum"
        }
        momentum = self._step.settings_at(step, at)["momentum"]
        return ops.cast(ops.round(momentum * DENOMINATOR), "int64")

    def _state(self, weights, velocities):
        dtype = self._step.dtype
        slots = [(v,) for v in to_float(velocities, dtype)]
        return State(to_float(weights, dtype), slots, [])

    def _updates_of(self, t, weights, values, data):
        step = self._step
        weights = to_float(weights, step.dtype)
        at = step.values_at(values, t, backend.gather(data.order, t))
        loss, gradients, _ = step.gradients(t, weights, [], at, data)
        rate = step.settings_at(t, at)["learning_rate"]
        updates = [rate * g for g in gradients]
        in_range = [ops.all(ops.abs(v) < _LARGEST) for v in (*weights, *updates)]
        loss = ops.where(ops.all(ops.stack(in_range)), loss, float("nan"))
        return to_fixed(updates), loss

    def _pull_back_of(self, t, weights, velocities, adjoint, values, data):
        state = self._state(weights, velocities)
        _, _, gradients = self._step.advance(t, state, values, data)
        return self._step.pull_back(t, state, gradients, adjoint, values, data)


class Buffer(NamedTuple):
    """The bits that products with the momentum drop.

    Args:
        words: List of int64 tensors, shaped as the weights.
        bound: Float tensor, above all that words can hold.
        aside: List of arrays of full words.
        count: Integer tensor, how many words of each weight are set aside.
        is_full: Array of booleans, whether they were set aside before a step.
    """

    words: list
    bound: Any
    aside: list
    count: Any
    is_full: Any

    @classmethod
    def empty(cls, zeros: list, steps: int, room: int) -> "Buffer":
        """Returns one for integers of these shapes, so many steps, and words to set aside."""
        aside = [backend.array("int64", room, z.shape, grows=True) for z in zeros]
        is_full = backend.array("bool", steps, ())
        return cls(zeros, ops.ones((), "float64"), aside, index_tensor(0), is_full)

    def make_room(self, step: Any, numerator: Any) -> "Buffer":
        """Returns one whose words have room for one more product."""
        is_full = self.bound > FULL
        aside, count, words = backend.push_if(is_full, self.aside, self.count, self.words)
        return Buffer(
            words,
            self.next_bound(is_full, numerator),
            aside,
            count,
            self.is_full.write(step, is_full),
        )

    def next_bound(self, is_full: Any, numerator: Any) -> Any:
        """Returns the bound after a product with the momentum."""
        bound = backend.where(is_full, ops.ones_like(self.bound), self.bound)
        return bound * (DENOMINATOR / ops.cast(numerator, "float64")) + 1.0

    def take_back(self, step: Any) -> "Buffer":
        """Undoes `make_room`."""
        is_full = self.is_full.read(step)
        count, words = backend.pop_if(is_full, self.aside, self.count, self.words)
        return self._replace(words=words, count=count)
