"""Training, and the way back through it from states that are kept or computed again."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_extras.autodiff.training_step import Data, State, TrainingStep


class CheckpointedPath:
    """Keeps all steps; or the state before each `every`-th, and trains again from there.

    Args:
        step: The `TrainingStep`.
        every: Integer, or `None` to keep all steps.
    """

    compiles_steps = False

    def __init__(self, step: TrainingStep, every: int | None):
        self._step, self._every = step, every

    def prepare(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the hyperparameters that are trained with."""
        return dict(values)

    def forward(
        self, start: State, values: Mapping[str, Any], data: Data, keep: bool
    ) -> tuple[State, Any, list]:
        """Runs all steps.

        Args:
            start: The state before the first one.
            values: Dict of the hyperparameters.
            data: The training data.
            keep: Boolean, whether the way back is wanted.

        Returns:
            The final state, the losses of the steps, and a list of TensorArrays of what is kept.
        """
        every, steps = self._every, data.order.shape[0]
        losses = tf.TensorArray(self._step.dtype, steps, element_shape=())
        if not keep:
            kept = []
        elif every is None:
            kept = _arrays((start, start.weights), steps)
        else:
            kept = _arrays(start, 1 + (steps + every - 2) // every)

        def body(t, state, losses, kept):
            after, loss, gradients = self._step.advance(t, state, values, data)
            if keep and every is None:
                kept = _write(kept, t, (state, gradients))
            elif keep:
                # Steps between two checkpoints write to the place of the second, the last to do so.
                kept = _write(kept, (t + every - 1) // every, state)
            return t + 1, after, losses.write(t, loss), kept

        _, state, losses, kept = tf.while_loop(
            lambda t, *_: t < steps, body, (tf.constant(0), start, losses, kept)
        )
        return state, losses.stack(), kept

    def backward(
        self, adjoint: State, kept: list, start: State, values: Mapping[str, Any], data: Data
    ) -> tuple[State, dict[str, Any], Any]:
        """Goes back through all steps (reverse mode).

        Args:
            adjoint: Derivatives of the validation loss with respect to the final state.
            kept: What `forward` kept.
            start: The initial state.
            values: Dict of the hyperparameters.
            data: The training data.

        Returns:
            Derivatives with respect to the initial state, what the step's `add_gradients` collected
            and True.
        """
        every, steps = self._every, data.order.shape[0]

        def back(first, last, record, adjoint, totals):
            def body(t, adjoint, totals):
                state, gradients = _read(record, t - first, (start, start.weights))
                adjoint, found = self._step.pull_back(t, state, gradients, adjoint, values, data)
                return t - 1, adjoint, self._step.add_gradients(totals, found, t, data)

            return tf.while_loop(lambda t, *_: t >= first, body, (last, adjoint, totals))[1:]

        def segment(k, adjoint, totals):
            first, last = k * every, tf.minimum((k + 1) * every, steps) - 1

            def again(t, state, record):
                after, _, gradients = self._step.advance(t, state, values, data)
                return t + 1, after, _write(record, t - first, (state, gradients))

            record = _arrays((start, start.weights), every)
            _, _, record = tf.while_loop(
                lambda t, *_: t <= last, again, (first, _read(kept, k, start), record)
            )
            return k - 1, *back(first, last, record, adjoint, totals)

        totals = self._step.no_gradients(values)
        if every is None:
            adjoint, totals = back(0, tf.constant(steps - 1), kept, adjoint, totals)
        else:
            last = tf.constant((steps - 1) // every)
            _, adjoint, totals = tf.while_loop(
                lambda k, *_: k >= 0, segment, (last, adjoint, totals)
            )
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
