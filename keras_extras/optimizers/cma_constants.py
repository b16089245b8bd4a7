"""StrategyConstants: parameters of CMA-ES that follow from the sizes of problem and population."""

import math
from typing import Any, NamedTuple

import numpy as np


class StrategyConstants(NamedTuple):
    """The strategy parameters of CMA-ES for a population, in Hansen's symbols.

    References:
        [Hansen, 2016, "The CMA Evolution Strategy: A Tutorial"](
        https://arxiv.org/abs/1604.00772), table 1 and equations 49 to 58.
    """

    weights: Any
    mu_eff: Any
    c_sigma: Any
    d_sigma: Any
    c_c: Any
    c_1: Any
    c_mu: Any

    @classmethod
    def of(cls, population: int, size: int) -> "StrategyConstants":
        raw = math.log((population + 1) / 2) - np.log(np.arange(1, population + 1))
        better, worse = np.maximum(raw, 0), np.minimum(raw, 0)
        mu_eff, mu_eff_minus = (part.sum() ** 2 / (part**2).sum() for part in (better, worse))
        c_sigma = (mu_eff + 2) / (size + mu_eff + 5)
        d_sigma = 1 + 2 * max(0, math.sqrt((mu_eff - 1) / (size + 1)) - 1) + c_sigma
        c_c = (4 + mu_eff / size) / (size + 4 + 2 * mu_eff / size)
        c_1 = 2 / ((size + 1.3) ** 2 + mu_eff)
        c_mu = min(1 - c_1, 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((size + 2) ** 2 + mu_eff))
        alpha_mu = 1 + c_1 / c_mu
        alpha_mu_eff = 1 + 2 * mu_eff_minus / (mu_eff + 2)
        alpha_pos_def = (1 - c_1 - c_mu) / (size * c_mu)
        alpha = min(alpha_mu, alpha_mu_eff, alpha_pos_def)
        weights = better / better.sum() - alpha * worse / worse.sum()
        return cls(weights, mu_eff, c_sigma, d_sigma, c_c, c_1, c_mu)
