"""LineSearchOptimizer: the base of optimizers that search for a lower loss along a line."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_extras._core.checks import check_built_for
from keras_extras.optimizers.flat_weights_optimizer import FlatWeightsOptimizer
from keras_extras.optimizers.line_search import strong_wolfe


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


class LineSearchOptimizer(FlatWeightsOptimizer):
    """Base class of optimizers that go along a direction to a lower loss of the batch.

    Each step goes along the `direction` that a subclass finds, as far as a search for the strong
    Wolfe conditions says.
    """

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

    def on_face(self, memory: Sequence[Any], is_free: Any) -> Sequence[Any]:
        """Returns the memory of some of the weights; for subclasses that take bounds.

        Args:
            memory: List of tensors.
            is_free: Vector, 1 for these weights and 0 for others.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `on_face`.")

    def forget(self, memory: Sequence[Any]) -> Sequence[Any]:
        """Returns the memory after a direction along which the loss does not fall."""
        return memory

    def search(self, loss_of: Callable, variables: Sequence[keras.Variable]) -> None:
        check_built_for(self.name, variables, self._built_for)
        value_and_gradient = self._value_and_gradient(loss_of, variables)
        given = self._flat(variables)
        first = self._inside(given)
        value, gradient = value_and_gradient(first)
        is_finite = ops.logical_and(ops.isfinite(value), ops.all(ops.isfinite(gradient)))
        zero = ops.zeros((), "int32")
        start = _State(
            zero, zero + 1, zero, first, value, gradient, tuple(ops.copy(v) for v in self._memory)
        )

        def goes_on(state):
            is_steep = self._steepness(state.point, state.gradient) > self.tolerance
            is_left = state.count < self.iterations_per_batch
            return is_left & (state.failures < 2) & is_finite & is_steep

        (end,) = ops.while_loop(
            goes_on, lambda state: (self._step(value_and_gradient, state),), (start,)
        )
        self._end_batch(variables, given, is_finite, end)

    def _inside(self, point):
        return point if self._bounds is None else self._bounds.inside(point)

    def _way(self, value_and_gradient, state):
        """The direction, the first step along it, whether it is that of the subclass; the memory.

        Within bounds it is on a face of the box, that of the entries which the gradient does not
        hold on their bounds, and leads to the nearest point of the box (Bertsekas).
        """
        gradient = state.gradient
        is_free = None if self._bounds is None else self._bounds.is_free(state.point, gradient)
        gradient = gradient if is_free is None else is_free * gradient
        direction, first_step, memory = self.direction(
            lambda vector: value_and_gradient(vector)[1],
            state.point,
            gradient,
            state.memory if is_free is None else self.on_face(state.memory, is_free),
        )

        def reachable(direction, step):
            if is_free is None:
                return direction, step
            moved = self._bounds.inside(state.point + step * is_free * direction)
            return moved - state.point, ops.ones_like(step)

        direction, first_step = reachable(direction, first_step)
        # After a failure, and where rounding has spoilt the direction: down the gradient.
        is_good = (state.failures < 1) & (ops.sum(direction * state.gradient) < 0.0)
        down, careful = reachable(-gradient, careful_step(gradient))
        direction = ops.where(is_good, direction, down)
        first_step = ops.where(is_good, first_step, careful)
        return direction, first_step, is_good, memory if is_free is None else state.memory

    def _step(self, value_and_gradient, state):
        """Moves along one direction, as far as the line search goes."""
        gradient = state.gradient
        direction, first_step, is_good, memory = self._way(value_and_gradient, state)
        longest = None if self._bounds is None else self._bounds.longest(state.point, direction)
        found = strong_wolfe(
            value_and_gradient,
            state.point,
            direction,
            state.value,
            gradient,
            first_step,
            self._epsilon,
            longest,
        )
        has_moved = found.step > 0.0
        move = found.step * direction
        remembered = self.remember(move, found.gradient - gradient, memory)
        return _State(
            count=state.count + 1,
            evaluations=state.evaluations + found.evaluations,
            failures=ops.where(has_moved, 0, state.failures + 2 - ops.cast(is_good, "int32")),
            point=self._inside(state.point + move),
            value=found.value,
            gradient=found.gradient,
            memory=tuple(
                ops.where(has_moved, new, old) for new, old in zip(remembered, self.forget(memory))
            ),
        )


def careful_step(gradient: Any) -> Any:
    """Returns the step along the gradient, where nothing is known of curvature, of length 1."""
    return 1.0 / ops.norm(gradient)
