"""TrainingPath: the forward and the backward pass through the steps of a training."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from keras import ops

from keras_extras.unrolled.batches import Batches
from keras_extras.unrolled.training_step import State


class TrainingPath:
    """Base of ways through training, and back."""

    def forward(
        self, start: State, values: Mapping[str, Any], data: Batches, room: int
    ) -> tuple[State, Any, Any]:
        """Runs all steps.

        Args:
            start: The state before the first one.
            values: Dict of the hyperparameters.
            data: The training data.
            room: Integer; 0 if no way back is wanted.

        Returns:
            The final state, the losses of the steps, and the record that `backward` needs.
        """
        raise NotImplementedError

    def backward(
        self, adjoint: State, record: Any, start: State, values: Mapping[str, Any], data: Batches
    ) -> tuple[State, dict[str, Any], Any]:
        """Goes back through all steps (reverse mode).

        Args:
            adjoint: Derivatives of the validation loss with respect to the final state.
            record: What `forward` returned.
            start: The initial state.
            values: Dict of the hyperparameters.
            data: The training data.

        Returns:
            Derivatives with respect to the initial state and to the hyperparameters of steps, and
            whether the way led back to the start.
        """
        raise NotImplementedError

    def prepare(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the hyperparameters that are trained with."""
        return dict(values)

    def context(self) -> contextlib.AbstractContextManager:
        """Returns the context in which compiled functions are called."""
        return contextlib.nullcontext()

    def room(self, values: Mapping[str, Any]) -> int:
        """Returns for how many tensors of a kind the way back needs room.

        Args:
            values: Dict of the hyperparameters, arrays.
        """
        return 1

    def forward_and_backward(
        self,
        start: State,
        values: Mapping[str, Any],
        data: Batches,
        room: int,
        pull_back_validation: Callable[[State], tuple[Any, State]],
    ) -> tuple[Any, Any, State, dict[str, Any], Any]:
        """Runs all steps, and goes back through each (reverse mode).

        Args:
            start: The state before the first step.
            values: Dict of the hyperparameters.
            data: The training data.
            room: Integer, the result of `room`.
            pull_back_validation: Function from the final state to the validation loss and its
                derivatives with respect to that state.

        Returns:
            The validation loss, the losses of the steps, derivatives with respect to the initial
            state and to the hyperparameters of steps, and whether the way led back to the start.
        """
        state, losses, record = self.forward(start, values, data, room)
        loss, adjoint = pull_back_validation(state)
        adjoint, gradients, returned = self.backward(adjoint, record, start, values, data)
        return loss, losses, adjoint, gradients, returned


def index_tensor(value: int) -> Any:
    """Returns the place of a step or a segment as a tensor, which loops count in."""
    return ops.convert_to_tensor(value, "int32")
