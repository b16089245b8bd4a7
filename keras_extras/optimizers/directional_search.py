"""DirectionalSearch: the base of searches that take steps along random directions."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_choice, check_decay, check_number
from keras_extras._core.stateless import cond
from keras_extras._seams.low_rank_kernels import RankOne
from keras_extras.optimizers.directions import DIRECTIONS, draw_directions, scaled
from keras_extras.optimizers.population_optimizer import PopulationOptimizer


class DirectionalSearch(PopulationOptimizer):
    """Base class of searches that compare the loss on either side of the weights.

    It draws directions, some of whose entries may be zero, and knows how far candidates lie from
    the weights, and how to take a step unless no pair of candidates had a finite loss.
    """

    def __init__(
        self,
        sigma: float,
        sigma_decay_power: float,
        update_probability: float,
        noise: str,
        beta_2: float,
        epsilon: float,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.sigma = check_number("sigma", sigma, above=0)
        self.sigma_decay_power = check_decay("sigma_decay_power", sigma_decay_power)
        self.update_probability = check_number(
            "update_probability", update_probability, above=0, at_most=1
        )
        self.noise = check_choice("noise", noise, DIRECTIONS)
        self.beta_2 = check_decay("beta_2", beta_2)
        self.epsilon = check_number("epsilon", epsilon, above=0)

    def build_search(self, coordinates: Sequence[keras.Variable]) -> None:
        self._shapes = [tuple(v.shape) for v in coordinates]

    def failure(self) -> str:
        return super().failure().replace("every candidate", "each pair of candidates")

    def search_state(self) -> dict[str, float]:
        width = float(self._width(ops.maximum(self.iterations, 1)))
        return {**super().search_state(), "width": width * self.update_probability**0.5}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "sigma": self.sigma,
            "sigma_decay_power": self.sigma_decay_power,
            "update_probability": self.update_probability,
            "noise": self.noise,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }

    def _width(self, updates: Any = None) -> Any:
        """The distance of candidates in each weight, in units of its scale."""
        updates = self.iterations + 1 if updates is None else updates
        return self.sigma / ops.power(ops.cast(updates, "float32"), self.sigma_decay_power)

    def _directions(self, count: int) -> Callable[[Any, int], list[Any]]:
        """A function of first and number that draws some of `count` directions."""
        directions = draw_directions(self.noise, count, self._shapes, self.seed_generator)
        if self.update_probability == 1:
            return directions.draw

        def thinned(entry):
            shape = entry.left.shape if isinstance(entry, RankOne) else entry.shape
            chance = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
            return scaled(entry, ops.cast(chance < self.update_probability, "float32"))

        return lambda start, count: [thinned(entry) for entry in directions.draw(start, count)]

    def _descend_unless(self, failed: Any, gradients: Callable[[], list[Any]]) -> None:
        """Takes a step along what `gradients()` returns."""
        self._failed.assign(failed)
        coordinates = [p.coordinates for p in self.parameters]
        cond(failed, lambda: None, lambda: self.descend(gradients(), coordinates))
