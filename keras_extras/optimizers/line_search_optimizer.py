"""LineSearchOptimizer: the base of optimizers that search for a lower loss along a line."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import (
    check_built_for,
    check_integer,
    check_number,
    check_unconstrained,
)
from keras_extras._core.differentiation import value_and_gradients
from keras_extras._core.flat_vectors import flat, split_entries
from keras_extras._core.stateless import cond
from keras_extras.optimizers.full_batch import FullBatch
from keras_extras.optimizers.line_search import strong_wolfe
from keras_extras.optimizers.loss_evaluating import LossEvaluatingOptimizer
from keras_extras.optimizers.replicas import mean_over_replicas

# Of the docstrings of its children.
LEARNING_RATE = """
        learning_rate: Float or `keras.optimizers.schedules.LearningRateSchedule`, the share of
            the way to where the search on a batch ended that the weights take. Less than 1
            averages over noisy batches. Defaults to `1.0`.
    """
STEPS = """
        iterations_per_batch: Integer, how many steps to take on each batch at most. The first
            evaluation on a batch is paid once for all of them. Defaults to `10`.
        tolerance: Float, the largest entry of the gradient at which to stop. Defaults to `1e-6`.
    """
RAISES = """
    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or a variable has a constraint.
    """


class _State(NamedTuple):
    """State of the search on one batch.

    Attributes:
        count: The number of steps so far.
        evaluations: That of evaluations of the loss and its gradient.
        failures: That of failures to move: 1 along a good direction, 2 down the gradient.
        point: Vector, the weights.
        value: The loss there.
        gradient: Vector, its gradient there.
        memory: Tuple of tensors, those of the subclass.
    """

    count: Any
    evaluations: Any
    failures: Any
    point: Any
    value: Any
    gradient: Any
    memory: tuple[Any, ...]


class LineSearchOptimizer(FullBatch, LossEvaluatingOptimizer):
    """Base class of optimizers that go along a direction to a lower loss of the batch.

    All weights are one vector. On each batch it takes up to `iterations_per_batch` steps, each
    along the `direction` that a subclass finds, as far as a search for the strong Wolfe
    conditions says. A subclass may carry tensors from step to step, its memory, whose variables
    it adds in `build_memory`.
    """

    def __init__(
        self, learning_rate: Any, iterations_per_batch: int, tolerance: float, **kwargs: Any
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.iterations_per_batch = check_integer("iterations_per_batch", iterations_per_batch)
        self.tolerance = check_number("tolerance", tolerance, at_least=0.0)
        self._evaluations = self.add_variable((), dtype="int32", name="evaluations")
        self._converged = self.add_variable((), dtype="bool", name="converged")
        self._gradient_norm = self.add_variable((), dtype="float32", name="gradient_norm")

    @property
    def evaluations(self) -> int:
        """How often loss and gradient were evaluated so far."""
        return int(self._evaluations.numpy())

    @property
    def converged(self) -> bool:
        """Whether there was nothing to do on the last batch.

        The largest entry of the gradient was at most `tolerance` at the weights that were given,
        or along no direction a lower loss was found.
        """
        return bool(self._converged.numpy())

    def build_memory(self, size: int, dtype: str) -> list[keras.Variable]:
        """Adds what is carried from step to step, for a vector of weights; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must override `build_memory`.")

    def direction(
        self, gradient_of: Callable[[Any], Any], point: Any, gradient: Any, memory: Sequence[Any]
    ) -> tuple[Any, Any, Sequence[Any]]:
        """Finds where to go; to be overridden.

        Args:
            gradient_of: Function from a vector of weights to the gradient of the loss.
            point: Vector, the weights.
            gradient: Vector, the gradient there.
            memory: List of tensors, of the variables that `build_memory` added.

        Returns:
            The direction, the step along it to try first, and the memory.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `direction`.")

    def remember(self, step: Any, change: Any, memory: Sequence[Any]) -> Sequence[Any]:
        """Returns the memory after a step and the change of the gradient along it."""
        return memory

    def forget(self, memory: Sequence[Any]) -> Sequence[Any]:
        """Returns the memory after a direction along which the loss does not fall."""
        return memory

    def build(self, variables: Sequence[keras.Variable]) -> None:
        # For none it is built by Keras' loader of `.h5`, before the weights are known.
        if self.built or not variables:
            return
        variables = list(variables)
        check_unconstrained(
            variables,
            f"{type(self).__name__} minimizes over all values of the weights and cannot keep "
            "a constraint; leave it out, compute the weight from a free one, as in "
            "`keras.ops.softplus(w)`, or take MonteCarloOptimizer or CMAES.",
        )
        super().build(variables)
        self._built_for = variables
        self._shapes = [tuple(v.shape) for v in variables]
        self._dtype = "float64" if any(v.dtype == "float64" for v in variables) else "float32"
        self._memory = self.build_memory(sum(map(math.prod, self._shapes)), self._dtype)

    def search(self, loss_of: Callable, variables: Sequence[keras.Variable]) -> None:
        check_built_for(self.name, variables, self._built_for)
        value_and_gradient = self._value_and_gradient(loss_of, variables)
        given = self._flat(variables)
        value, gradient = value_and_gradient(given)
        is_finite = ops.logical_and(ops.isfinite(value), ops.all(ops.isfinite(gradient)))
        zero = ops.zeros((), "int32")
        start = _State(
            zero, zero + 1, zero, given, value, gradient, tuple(ops.copy(v) for v in self._memory)
        )

        def goes_on(state):
            is_steep = ops.max(ops.abs(state.gradient)) > self.tolerance
            is_left = state.count < self.iterations_per_batch
            return is_left & (state.failures < 2) & is_finite & is_steep

        (end,) = ops.while_loop(
            goes_on, lambda state: (self._step(value_and_gradient, state),), (start,)
        )
        self._failed.assign(~is_finite)
        self._evaluations.assign_add(end.evaluations)
        self._gradient_norm.assign(ops.cast(ops.max(ops.abs(end.gradient)), "float32"))
        self._converged.assign(ops.logical_and(is_finite, ops.all(end.point == given)))
        for variable, new in zip(self._memory, end.memory):
            variable.assign(new)
        way = self._shaped(given - end.point)
        cond(is_finite, lambda: self.descend(way, variables), lambda: None)

    def _value_and_gradient(self, loss_of, variables):
        """A function from a vector of weights to the loss and its gradient."""

        def value_and_gradient(vector):
            value, (gradient,) = value_and_gradients(
                lambda vectors: loss_of(self._shaped(vectors[0])), [vector]
            )
            if gradient is None:
                raise ValueError(
                    f"The loss has no gradient with respect to the weights, which {self.name} "
                    "follows: look for rounding, argmax and the like, or take MonteCarloOptimizer "
                    f"or CMAES. Received: {', '.join(repr(v.path) for v in variables)}"
                )
            return ops.cast(value, self._dtype), gradient

        return functools.partial(mean_over_replicas, value_and_gradient)

    def _step(self, value_and_gradient, state):
        """Moves along one direction, as far as the line search goes."""
        gradient = state.gradient
        direction, first_step, memory = self.direction(
            lambda vector: value_and_gradient(vector)[1], state.point, gradient, state.memory
        )
        # After a failure, and where rounding has spoilt the direction: down the gradient.
        is_good = (state.failures < 1) & (ops.sum(direction * gradient) < 0.0)
        direction = ops.where(is_good, direction, -gradient)
        first_step = ops.where(is_good, first_step, careful_step(gradient))
        found = strong_wolfe(
            value_and_gradient,
            state.point,
            direction,
            state.value,
            gradient,
            first_step,
            self._epsilon,
        )
        has_moved = found.step > 0.0
        move = found.step * direction
        remembered = self.remember(move, found.gradient - gradient, memory)
        return _State(
            count=state.count + 1,
            evaluations=state.evaluations + found.evaluations,
            failures=ops.where(has_moved, 0, state.failures + 2 - ops.cast(is_good, "int32")),
            point=state.point + move,
            value=found.value,
            gradient=found.gradient,
            memory=tuple(
                ops.where(has_moved, new, old) for new, old in zip(remembered, self.forget(memory))
            ),
        )

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Takes `learning_rate` of the way to where the search on this batch has ended."""
        rate = ops.cast(learning_rate, variable.dtype)
        variable.assign_sub(rate * ops.cast(gradient, variable.dtype))

    @property
    def _epsilon(self):
        return float(np.finfo(self._dtype).eps)

    def _flat(self, variables):
        return flat([ops.cast(ops.copy(v), self._dtype) for v in variables])

    def _shaped(self, vector):
        parts = split_entries(vector, self._shapes)
        return [ops.cast(part, v.dtype) for part, v in zip(parts, self._built_for)]

    def failure(self) -> str:
        return (
            f"Training stopped: on a batch just before, the loss or its gradient was NaN or "
            f"infinite where {self.name} started. That batch left the weights as they were. "
            "Look for NaN in the inputs or targets and for a loss that overflows."
        )

    def extra_logs(self) -> dict[str, Any]:
        """Returns logs of `fit` beside the metrics: steepness of the loss, evaluations so far."""
        return {
            "gradient_norm": float(self._gradient_norm.numpy()),
            "evaluations": self.evaluations,
        }

    def get_config(self) -> dict[str, Any]:
        names = ("iterations_per_batch", "tolerance")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def careful_step(gradient: Any) -> Any:
    """Returns the step along the gradient, where nothing is known of curvature, of length 1."""
    return 1.0 / ops.norm(gradient)
