"""AdamSearch: the base of a search that takes Adam's steps along estimated gradients."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_decay
from keras_extras._core.flat_vectors import num_entries
from keras_extras._seams.optimizer_variables import index_of
from keras_extras.optimizers.directional_search import DirectionalSearch

_SIGMA = 0.1
# The first learning rate, as a share of the size of weights and within bounds; where weights are 0;
# the least, and the updates after which it begins to fall.
_SHARE_OF_WEIGHTS, _FIRST_RATES, _RATE_AT_ZERO = 1 / 3, (0.02, 0.1), 0.05
_LEAST_RATE, _RATE_UPDATES = 0.005, 50


class AdamSearch(DirectionalSearch):
    """Base class of a search by steps of Adam, in units of each variable's scale.

    Without a learning rate it falls with the updates t of Adam, `max(r / sqrt(1 + t / 50), 0.005)`,
    until one is assigned to `learning_rate`. The first, r, is a third of the root mean square that
    kernels have then, from 0.02 to 0.1.
    """

    def __init__(self, learning_rate: Any, sigma: float | None, beta_1: float, **kwargs: Any):
        super().__init__(
            learning_rate=_RATE_AT_ZERO if learning_rate is None else learning_rate,
            sigma=_SIGMA if sigma is None else sigma,
            **kwargs,
        )
        self.has_own_rate, self.has_own_sigma = learning_rate is None, sigma is None
        self.beta_1 = check_decay("beta_1", beta_1)
        # A callback that assigns a learning rate means it.
        initializer = keras.initializers.Constant(self.has_own_rate)
        self._is_rate_own = self.add_variable((), initializer, "bool", name="is_rate_own")
        first = keras.initializers.Constant(_RATE_AT_ZERO)
        self._first_rate = self.add_variable((), first, "float32", name="first_rate")
        self._adam_began = self.add_variable((), dtype=self.iterations.dtype, name="adam_began")

    def build_search(self, coordinates: Sequence[keras.Variable]) -> None:
        super().build_search(coordinates)
        self._momentums = self.add_optimizer_variables(coordinates, "momentum")
        self._velocities = self.add_optimizer_variables(coordinates, "velocity")

    @property
    def learning_rate(self) -> Any:
        """The learning rate of Adam; one that is assigned is kept."""
        return super().learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        keras.optimizers.Optimizer.learning_rate.fset(self, learning_rate)
        self.has_own_rate = self.has_own_rate and not callable(learning_rate)
        self._is_rate_own.assign(False)

    def own_rate(self) -> Any:
        """Returns the learning rate of the next step where none was given."""
        updates = ops.cast(self.iterations - self._adam_began, "float32")
        first = ops.where(updates == 0.0, self._rate_for_weights(), ops.copy(self._first_rate))
        self._first_rate.assign(first)
        return ops.maximum(first / ops.sqrt(1.0 + updates / _RATE_UPDATES), _LEAST_RATE)

    def _rate_for_weights(self):
        kernels = [p for p in self.parameters if len(p.coordinates.shape) > 1] or self.parameters
        squares = [
            ops.sum(ops.square(ops.cast(p.coordinates, "float32") / p.scale)) for p in kernels
        ]
        size = ops.sqrt(sum(squares) / num_entries([p.coordinates for p in kernels]))
        rate = ops.clip(_SHARE_OF_WEIGHTS * size, *_FIRST_RATES)
        return ops.where(size > 0, rate, _RATE_AT_ZERO)

    def descend(self, gradients: Sequence[Any], variables: Any = None) -> None:
        if self.has_own_rate:
            given = ops.copy(self.learning_rate)
            rate = ops.where(ops.copy(self._is_rate_own), self.own_rate(), given)
            keras.optimizers.Optimizer.learning_rate.fset(self, rate)
        super().descend(gradients, variables)

    def begin_adam(self, begins: Any) -> None:
        """Restarts Adam if the boolean scalar `begins` is true."""
        for moment in (*self._momentums, *self._velocities):
            moment.assign(ops.where(begins, 0.0, ops.copy(moment)))
        began = ops.where(begins, ops.copy(self.iterations), ops.copy(self._adam_began))
        self._adam_began.assign(began)

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Adam's step, in units of the variable's scale.

        A constraint such as `MaxNorm` moves to the nearest allowed point in Euclidean distance.
        Steps scaled by entry do not stop at the minimum then, so entries share a second moment.
        """
        index = index_of(self, variable)
        gradient = ops.cast(gradient, variable.dtype)
        rate = ops.cast(learning_rate, variable.dtype) * self.parameters[index].scale
        momentum, velocity = self._momentums[index], self._velocities[index]
        step = ops.cast(self.iterations - self._adam_began + 1, variable.dtype)
        momentum.assign_add((gradient - momentum) * (1 - self.beta_1))
        squares = ops.square(gradient)
        if self.parameters[index].is_projected_as_a_whole:
            squares = ops.mean(squares)
        velocity.assign_add((squares - velocity) * (1 - self.beta_2))
        mean = momentum / (1 - ops.power(ops.cast(self.beta_1, variable.dtype), step))
        square = velocity / (1 - ops.power(ops.cast(self.beta_2, variable.dtype), step))
        variable.assign_sub(rate * mean / (ops.sqrt(square) + self.epsilon))

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "beta_1": self.beta_1}
        if self.has_own_rate:
            config["learning_rate"] = None
        if self.has_own_sigma:
            config["sigma"] = None
        return config
