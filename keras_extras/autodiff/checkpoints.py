"""Training, and the way back through it from states that are kept or computed again."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_extras.autodiff.training_step import Data, State, TrainingStep


class CheckpointedPath:
    """Keeps the state before each `every`-th step, and trains again from there on the way back.

    Args:
        step: The `TrainingStep`.
        every: Integer; 1 keeps all states.
    """

    compiles_steps = False

    def __init__(self, step: TrainingStep, every: int):
        self._step, self._every = step, every

    def prepare(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the hyperparameters that are trained with."""
        return dict(values)

    def forward(
        self, state: State, values: Mapping[str, Any], data: Data, keep: bool
    ) -> tuple[State, Any, list]:
        """Runs all steps.

        Args:
            state: The state before the first one.
            values: Dict of the hyperparameters.
            data: The training data.
            keep: Boolean, whether the way back is wanted.

        Returns:
            The final state, the losses of the steps, and a list of TensorArrays of states.
        """
        every, steps = self._every, data.order.shape[0]
        kept = _arrays(state, 1 + (steps + every - 2) // every) if keep else []
        losses = tf.TensorArray(self._step.dtype, steps, element_shape=())

        def body(t, state, losses, kept):
            # Steps between two checkpoints write to the place of the second, which itself is last.
            kept = _write(kept, (t + every - 1) // every, state)
            state, loss = self._step.advance(t, state, values, data)
            return t + 1, state, losses.write(t, loss), kept

        _, state, losses, kept = tf.while_loop(
            lambda t, *_: t < steps, body, (tf.constant(0), state, losses, kept)
        )
        return state, losses.stack(), kept

    def backward(
        self, adjoint: State, kept: list, start: State, values: Mapping[str, Any], data: Data
    ) -> tuple[State, dict[str, Any], Any]:
        """Goes back through all steps (reverse mode), from checkpoint to checkpoint.

        Args:
            adjoint: Derivatives of the validation loss with respect to the final state.
            kept: What `forward` kept.
            start: The initial state.
            values: Dict of the hyperparameters.
            data: The training data.

        Returns:
            Derivatives with respect to the initial state, the sums over all steps of those with
            respect to the hyperparameters, and True.
        """
        step, every, steps = self._step, self._every, data.order.shape[0]
        totals = {name: tf.zeros_like(value) for name, value in values.items()}

        def segment(k, adjoint, totals):
            first, last = k * every, tf.minimum((k + 1) * every, steps) - 1
            state = _read(kept, k, start)
            if every == 1:
                return k - 1, *step.pull_back(first, state, adjoint, totals, values, data)

            def again(t, state, states):
                states = _write(states, t - first, state)
                return t + 1, step.advance(t, state, values, data)[0], states

            def back(t, adjoint, totals):
                state = _read(states, t - first, start)
                return t - 1, *step.pull_back(t, state, adjoint, totals, values, data)

            _, state, states = tf.while_loop(
                lambda t, *_: t < last, again, (first, state, _arrays(start, every))
            )
            states = _write(states, last - first, state)
            _, adjoint, totals = tf.while_loop(
                lambda t, *_: t >= first, back, (last, adjoint, totals)
            )
            return k - 1, adjoint, totals

        last = tf.constant((steps - 1) // every)
        _, adjoint, totals = tf.while_loop(lambda k, *_: k >= 0, segment, (last, adjoint, totals))
        return adjoint, totals, tf.constant(True)


def _arrays(state, size):
    """A TensorArray for each tensor of the states to keep."""
    return [
        tf.TensorArray(t.dtype, size, element_shape=t.shape, clear_after_read=False)
        for t in keras.tree.flatten(state)
    ]


def _write(arrays, index, state):
    return [array.write(index, t) for array, t in zip(arrays, keras.tree.flatten(state))]


def _read(arrays, index, like):
    return keras.tree.pack_sequence_as(like, [array.read(index) for array in arrays])
