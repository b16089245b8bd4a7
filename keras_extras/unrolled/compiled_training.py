"""Training and its gradient with respect to hyperparameters, as compiled functions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_extras.unrolled import backend
from keras_extras.unrolled.batches import Batches
from keras_extras.unrolled.training_step import State, TrainingStep


class CompiledTraining:
    """Compiled functions of a training.

    Args:
        step: The `TrainingStep`.
        path: `TrainingPath`, how to go through the steps and back.
        jit_compile: Boolean, whether to compile with XLA.
    """

    def __init__(self, step: TrainingStep, path: Any, jit_compile: bool):
        self._step, self._path = step, path
        self._train = backend.compiled(self._train_of)
        self._differentiate = backend.compiled(self._differentiate_of, static=("room",))
        self._validate = backend.compiled(step.validation_loss, jit_compile)

    def train(
        self, values: Mapping[str, np.ndarray], weights: list, statistics: list, data: Batches
    ) -> tuple[State, Any]:
        """Returns the final state, and the losses of the steps.

        Args:
            values: Dict of the hyperparameters.
            weights: List of the initial weights.
            statistics: List of the initial statistics.
            data: The training data.
        """
        with self._path.context():
            return self._train(self._tensors(values), weights, statistics, data)

    def trained(self, state: State) -> list:
        """Returns the weights that training leaves in a final state."""
        return self._step.trained(state)

    def validate(self, state: State, validation: tuple) -> Any:
        """Returns the validation loss of a state."""
        return self._validate(state, *validation)

    def differentiate(
        self,
        values: Mapping[str, np.ndarray],
        weights: list,
        statistics: list,
        data: Batches,
        validation: tuple,
    ) -> tuple[Any, dict[str, Any], Any]:
        """Returns the validation loss, its gradient, and the losses of the steps.

        Raises:
            RuntimeError: If the way back did not lead to the initial weights.
        """
        room = self._path.room(values)
        with self._path.context():
            *found, returned = self._differentiate(
                self._tensors(values), weights, statistics, data, validation, room=room
            )
        if not returned:
            raise RuntimeError(
                "Exact reversal did not return to the initial weights: this device does not "
                "compute the same gradients twice, bit for bit. Make it, on TensorFlow by "
                "`tf.config.experimental.enable_op_determinism()`, or take "
                'memory="checkpoints".'
            )
        return tuple(found)

    def _tensors(self, values):
        return {
            name: ops.convert_to_tensor(value, self._step.dtype) for name, value in values.items()
        }

    def _train_of(self, values, weights, statistics, data):
        values = self._path.prepare(values)
        start = self._step.initial_state(values, weights, statistics)
        state, losses, _ = self._path.forward(start, values, data, room=0)
        return state, losses

    def _differentiate_of(self, values, weights, statistics, data, validation, room):
        values = self._path.prepare(values)
        start = self._step.initial_state(values, weights, statistics)
        loss, losses, adjoint, gradients, returned = self._path.forward_and_backward(
            start,
            values,
            data,
            room,
            lambda state: self._step.pull_back_validation(state, *validation),
        )
        gradients |= self._step.pull_back_start(values, weights, statistics, adjoint)
        return loss, gradients, losses, returned
