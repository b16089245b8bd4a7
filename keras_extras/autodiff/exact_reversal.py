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
import tensorflow as tf

from keras_extras.autodiff.training_step import State, TrainingData, TrainingStep
from keras_extras.autodiff.update_rules import UpdateRule

FRACTION_BITS = 48
MOMENTUM_BITS = 12
_DENOMINATOR = 2**MOMENTUM_BITS
# A word below this can be multiplied by the denominator and still holds a sign.
_FULL = 2.0 ** (62 - MOMENTUM_BITS)
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
    numerators = np.rint(np.multiply(rule.settings["momentum"], _DENOMINATOR))
    momentum = np.clip(numerators, 1, _DENOMINATOR - 1) / _DENOMINATOR
    return replace(rule, settings={**rule.settings, "momentum": momentum})


def multiply(value: Any, buffer: Any, numerator: Any) -> tuple[Any, Any]:
    """Returns `value * numerator / d`, and the buffer with what that drops."""
    buffer = buffer * _DENOMINATOR + tf.math.floormod(value, _DENOMINATOR)
    value = value // _DENOMINATOR * numerator + tf.math.floormod(buffer, numerator)
    return value, buffer // numerator


def divide(value: Any, buffer: Any, numerator: Any) -> tuple[Any, Any]:
    """Undoes `multiply`."""
    buffer = buffer * numerator + tf.math.floormod(value, numerator)
    value = value // numerator * _DENOMINATOR + tf.math.floormod(buffer, _DENOMINATOR)
    return value, buffer // _DENOMINATOR


def to_fixed(values: list) -> list:
    """Returns tensors in fixed point."""
    return [tf.cast(tf.round(v * 2.0**FRACTION_BITS), tf.int64) for v in values]


def to_float(values: list, dtype: str) -> list:
    """Returns tensors of a float type from fixed point."""
    return [tf.cast(v, dtype) * 2.0**-FRACTION_BITS for v in values]


class ReversiblePath:
    """Runs training in integers, and undoes it on the way back.

    Args:
        step: A `TrainingStep` with a `reversible` rule.
        jit_compile: Boolean, whether single steps are compiled with XLA.
    """

    def __init__(self, step: TrainingStep, jit_compile: bool):
        self._step = step
        # XLA would round a step in a longer function otherwise on the way back.
        self._updates = tf.function(self._updates_of, autograph=False, jit_compile=jit_compile)
        self._pull_back = tf.function(self._pull_back_of, autograph=False, jit_compile=jit_compile)

    def prepare(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the hyperparameters with momenta rounded to n / d, n = 1 ... d - 1."""
        if "momentum" not in values:
            return dict(values)
        numerators = tf.round(values["momentum"] * _DENOMINATOR)
        numerators = tf.clip_by_value(numerators, 1.0, _DENOMINATOR - 1.0)
        return {**values, "momentum": numerators / _DENOMINATOR}

    def forward(
        self, state: State, values: Mapping[str, Any], data: TrainingData, keep: bool
    ) -> tuple[State, Any, tuple]:
        """Runs all steps.

        Args:
            state: The state before the first one.
            values: Dict of the hyperparameters.
            data: The training data.
            keep: Boolean, whether the way back is wanted.

        Returns:
            The final state, the losses of the steps, and what `backward` needs.
        """
        steps = data.order.shape[0]
        initial = to_fixed(state.weights)
        zeros = [tf.zeros_like(w) for w in initial]
        losses = tf.TensorArray(self._step.dtype, steps, element_shape=())

        def body(t, weights, velocities, buffer, losses):
            updates, loss = self._updates(t, weights, values, data)
            numerator = self._numerator(t, values)
            buffer = buffer.make_room(t, numerator) if keep else buffer
            products = [multiply(v, b, numerator) for v, b in zip(velocities, buffer.words)]
            velocities = [product - u for (product, _), u in zip(products, updates)]
            weights = [w + v for w, v in zip(weights, velocities)]
            buffer = buffer._replace(words=[word for _, word in products] if keep else zeros)
            return t + 1, weights, velocities, buffer, losses.write(t, loss)

        _, weights, velocities, buffer, losses = tf.while_loop(
            lambda t, *_: t < steps,
            body,
            (tf.constant(0), initial, zeros, Buffer.empty(zeros, steps), losses),
        )
        record = initial, weights, velocities, buffer
        return self._state(weights, velocities), losses.stack(), record

    def backward(
        self,
        adjoint: State,
        record: tuple,
        start: State,
        values: Mapping[str, Any],
        data: TrainingData,
    ) -> tuple[State, dict[str, Any], Any]:
        """Undoes all steps, and goes back through each (reverse mode).

        Args:
            adjoint: Derivatives of the validation loss with respect to the final state.
            record: What `forward` returned.
            start: The initial state.
            values: Dict of the hyperparameters.
            data: The training data.

        Returns:
            Derivatives with respect to the initial state and to the hyperparameters of steps, and
            whether the initial weights were reached.
        """
        initial, weights, velocities, buffer = record
        steps = data.order.shape[0]
        totals = self._step.no_gradients(values, steps)

        def body(t, weights, velocities, buffer, adjoint, totals):
            weights, velocities, buffer = self.undo(t, weights, velocities, buffer, values, data)
            adjoint, found = self._pull_back(t, weights, velocities, adjoint, values, data)
            totals = self._step.add_gradients(totals, found, t, tf.gather(data.order, t))
            return t - 1, weights, velocities, buffer, adjoint, totals

        last = tf.constant(steps - 1)
        _, weights, velocities, _, adjoint, totals = tf.while_loop(
            lambda t, *_: t >= 0, body, (last, weights, velocities, buffer, adjoint, totals)
        )
        equal = [tf.reduce_all(a == b) for a, b in zip(initial, weights)]
        equal += [tf.reduce_all(v == 0) for v in velocities]
        return adjoint, self._step.collected(totals, steps), tf.reduce_all(equal)

    def undo(
        self,
        step: Any,
        weights: list,
        velocities: list,
        buffer: "Buffer",
        values: Mapping[str, Any],
        data: TrainingData,
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
        return tf.cast(tf.round(momentum * _DENOMINATOR), tf.int64)

    def _state(self, weights, velocities):
        dtype = self._step.dtype
        slots = [(v,) for v in to_float(velocities, dtype)]
        return State(to_float(weights, dtype), slots, [])

    def _updates_of(self, t, weights, values, data):
        step = self._step
        weights = to_float(weights, step.dtype)
        at = step.values_at(values, t, tf.gather(data.order, t))
        loss, gradients, _ = step.gradients(t, weights, [], at, data)
        rate = step.settings_at(t, at)["learning_rate"]
        updates = [rate * g for g in gradients]
        in_range = [tf.reduce_all(tf.abs(v) < _LARGEST) for v in (*weights, *updates)]
        loss = tf.where(tf.reduce_all(in_range), loss, float("nan"))
        return to_fixed(updates), loss

    def _pull_back_of(self, t, weights, velocities, adjoint, values, data):
        state = self._state(weights, velocities)
        _, _, gradients = self._step.advance(t, state, values, data)
        return self._step.pull_back(t, state, gradients, adjoint, values, data)


class Buffer(NamedTuple):
    """What products with the momentum drop.

    Args:
        words: List of int64 tensors, shaped as the weights.
        bound: Float tensor, above all that words can hold.
        aside: List of TensorArrays of full words.
        count: Integer tensor, how many words of each weight are set aside.
        is_full: TensorArray of integers, whether they were set aside before a step.
    """

    words: list
    bound: Any
    aside: list
    count: Any
    is_full: Any

    @classmethod
    def empty(cls, zeros: list, steps: int) -> "Buffer":
        """Returns one for integers of these shapes and so many steps."""
        aside = [
            tf.TensorArray(
                tf.int64, 0, dynamic_size=True, element_shape=z.shape, clear_after_read=False
            )
            for z in zeros
        ]
        is_full = tf.TensorArray(tf.bool, steps, element_shape=(), clear_after_read=False)
        return cls(zeros, tf.constant(1.0, tf.float64), aside, tf.constant(0), is_full)

    def make_room(self, step: Any, numerator: Any) -> "Buffer":
        """Returns one whose words have room for one more product."""
        is_full = self.bound > _FULL
        words, aside, count = tf.cond(
            is_full,
            lambda: (
                [tf.zeros_like(word) for word in self.words],
                [a.write(self.count, word) for a, word in zip(self.aside, self.words)],
                self.count + 1,
            ),
            lambda: (self.words, self.aside, self.count),
        )
        growth = _DENOMINATOR / tf.cast(numerator, tf.float64)
        bound = tf.where(is_full, tf.ones_like(self.bound), self.bound) * growth + 1.0
        return Buffer(words, bound, aside, count, self.is_full.write(step, is_full))

    def take_back(self, step: Any) -> "Buffer":
        """Undoes `make_room`."""
        words, count = tf.cond(
            self.is_full.read(step),
            lambda: ([a.read(self.count - 1) for a in self.aside], self.count - 1),
            lambda: (self.words, self.count),
        )
        return self._replace(words=words, count=count)
