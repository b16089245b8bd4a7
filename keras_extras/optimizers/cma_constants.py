"""StrategyConstants: what CMAES sets by the size of the problem and of the population."""

import math
from typing import Any, NamedTuple

import numpy as np


class StrategyConstants(NamedTuple):
    """The constants of the strategy for a population, named by what they change.

    In Hansen's tutorial: w_i, mu_eff, c_sigma, d_sigma, c_c, c_1 and c_mu.
    """

    weights: Any
    mass: Any
    step: Any
    damping: Any
    path: Any
    rank_one: Any
    rank_mu: Any

    @classmethod
    def of(cls, population: int, size: int) -> "StrategyConstants":
        raw = math.log((population + 1) / 2) - np.log(np.arange(1, population + 1))
        better, worse = np.maximum(raw, 0), np.minimum(raw, 0)
        mass, worse_mass = (part.sum() ** 2 / (part**2).sum() for part in (better, worse))
        step = (mass + 2) / (size + mass + 5)
        damping = 1 + 2 * max(0, math.sqrt((mass - 1) / (size + 1)) - 1) + step
        path = (4 + mass / size) / (size + 4 + 2 * mass / size)
        rank_one = 2 / ((size + 1.3) ** 2 + mass)
        rank_mu = min(1 - rank_one, 2 * (0.25 + mass + 1 / mass - 2) / ((size + 2) ** 2 + mass))
        share = min(
            1 + rank_one / rank_mu,
            1 + 2 * worse_mass / (mass + 2),
            (1 - rank_one - rank_mu) / (size * rank_mu),
        )
        weights = better / better.sum() - share * worse / worse.sum()
        return cls(weights, mass, step, damping, path, rank_one, rank_mu)
