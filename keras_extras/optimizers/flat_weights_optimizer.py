"""FlatWeightsOptimizer: the base of optimizers for which all weights are one vector."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import (
    check_integer,
    check_number,
    check_unconstrained,
)
from keras_extras._core.differentiation import value_and_gradients
from keras_extras._core.flat_vectors import flat, split_entries
from keras_extras._core.stateless import cond
from keras_extras.optimizers.full_batch import FullBatch
from keras_extras.optimizers.loss_evaluating import LossEvaluatingOptimizer
from keras_extras.optimizers.replicas import mean_over_replicas
from keras_extras.optimizers.weight_bounds import bounds_of, is_box

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


class FlatWeightsOptimizer(FullBatch, LossEvaluatingOptimizer):
    """Base class of optimizers that follow derivatives of the loss of a batch to a minimum.

    All weights are one vector. On each batch a subclass takes up to `iterations_per_batch` steps,
    and ends where no entry of the gradient is above `tolerance`. It may carry tensors from step to
    step, its memory, whose variables it adds in `build_memory`.
    """

    # Whether constraints that are boxes are kept as bounds.
    takes_bounds = False

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

    def build(self, variables: Sequence[keras.Variable]) -> None:
        # For none it is built by Keras' loader of `.h5`, before the weights are known.
        if self.built or not variables:
            return
        variables = list(variables)
        boxes = "but `NonNeg` and `keras_extras.constraints.Box`" if self.takes_bounds else ""
        check_unconstrained(
            [v for v in variables if not (self.takes_bounds and is_box(v.constraint))],
            f"{type(self).__name__} minimizes over all values of the weights and cannot keep "
            f"a constraint{boxes and ' ' + boxes}; leave it out, compute the weight from a free "
            "one, as in `keras.ops.softplus(w)`, or take MonteCarloOptimizer or CMAES.",
        )
        super().build(variables)
        self._built_for = variables
        self._shapes = [tuple(v.shape) for v in variables]
        # Float64 on TensorFlow only: Keras' operations on JAX know none.
        self._dtype = keras.backend.result_type("float32", *(v.dtype for v in variables))
        self._bounds = bounds_of(variables, self._dtype)
        self._memory = self.build_memory(sum(map(math.prod, self._shapes)), self._dtype)

    def _end_batch(self, variables, given, is_finite, end):
        """Keeps where the search on a batch has ended, and moves the weights there.

        Args:
            variables: The weights.
            given: Vector of them where the batch started.
            is_finite: Whether the loss and its gradient are finite there.
            end: State with attributes `point`, `gradient`, `evaluations` and `memory`.
        """
        self._failed.assign(~is_finite)
        self._evaluations.assign_add(end.evaluations)
        steepness = self._steepness(end.point, end.gradient)
        self._gradient_norm.assign(ops.cast(steepness, "float32"))
        self._converged.assign(ops.logical_and(is_finite, ops.all(end.point == given)))
        for variable, new in zip(self._memory, end.memory):
            variable.assign(new)
        way = self._shaped(given - end.point)
        cond(is_finite, lambda: self.descend(way, variables), lambda: None)

    def _steepness(self, point, gradient):
        """The largest entry of the gradient, as far as bounds let the weights go down it."""
        if self._bounds is not None:
            gradient = self._bounds.inside(point - gradient) - point
        return ops.max(ops.abs(gradient))

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
