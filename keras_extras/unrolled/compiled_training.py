"""CompiledTraining: training and its derivatives by hyperparameters, as compiled functions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_extras.unrolled import backend
from keras_extras.unrolled.batches import Batches
from keras_extras.unrolled.training_step import ADJOINT_NORM, State, TrainingStep


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
        self._pull_back = backend.compiled(self._pull_back_of)
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
    ) -> tuple[Any, dict[str, Any], Any, Any]:
        """Returns the validation loss, its gradient, the losses of the steps, and the norms.

        The norms are those of its derivatives by the weights before each step.

        Raises:
            RuntimeError: If the way back did not lead to the initial weights.
        """
        with self._path.context():
            *found, returned = self._differentiate(
                self._tensors(values),
                weights,
                statistics,
                data,
                validation,
                room=self._path.room(values),
            )
        if not returned:
            raise RuntimeError(
                "Exact reversal did not return to the initial weights: this device does not "
                "compute the same gradients twice, bit for bit. Make it, on TensorFlow by "
                "`tf.config.experimental.enable_op_determinism()`, or take "
                'memory="checkpoints".'
            )
        return tuple(found)

    def differentiable(
        self, values: Mapping[str, Any], weights: list, statistics: list, data: Batches
    ) -> tuple[list, list]:
        """Returns trained weights and statistics, which have derivatives by the hyperparameters.

        Args:
            values: Dict of the hyperparameters, tensors.
            weights: List of the initial weights.
            statistics: List of the initial statistics.
            data: The training data.
        """
        names, tensors = list(values), list(self._tensors(values).values())

        @ops.custom_gradient
        def trained(*tensors):
            tensors = list(map(backend.unrecorded, tensors))
            state, _ = self.train(dict(zip(names, tensors)), weights, statistics, data)
            found = (*self._step.trained(state), *state.statistics)

            def pull_back(*args, upstream=None):
                adjoints = list(upstream if upstream is not None else args)
                with self._path.context():
                    gradients = self._pull_back(
                        dict(zip(names, tensors)), weights, statistics, data, adjoints
                    )
                return tuple(gradients[name] for name in names)

            return found, pull_back

        found = trained(*tensors)
        return list(found[: len(weights)]), list(found[len(weights) :])

    def _tensors(self, values):
        return {
            name: ops.convert_to_tensor(value, self._step.dtype) for name, value in values.items()
        }

    def _train_of(self, values, weights, statistics, data):
        values = self._path.prepare(values)
        start = self._step.initial_state(values, weights, statistics)
        state, losses, _ = self._path.forward(start, values, data, room=0)
        return state, losses

    def _pull_back_of(self, values, weights, statistics, data, adjoints):
        def pull_back_trained(state):
            zero = ops.zeros((), self._step.dtype)
            return zero, self._step.pull_back_trained(state, adjoints)

        values = self._path.prepare(values)
        start = self._step.initial_state(values, weights, statistics)
        *_, adjoint, gradients, _ = self._path.forward_and_backward(
            start, values, data, 1, pull_back_trained
        )
        gradients.pop(ADJOINT_NORM)
        gradients |= self._step.pull_back_start(values, weights, statistics, adjoint)
        return gradients

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
        norms = gradients.pop(ADJOINT_NORM)
        gradients |= self._step.pull_back_start(values, weights, statistics, adjoint)
        return loss, gradients, losses, norms, returned
