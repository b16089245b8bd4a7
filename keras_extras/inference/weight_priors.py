"""WeightPriors: a prior for each weight of a model."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import check_choice
from keras_extras._core.distribution_kinds import unwrap
from keras_extras._core.path_patterns import by_pattern
from keras_extras._core.probability import seed_of, tfd

_NAMES = ("standard_normal", "scaled_normal")


class WeightPriors:
    """The prior of all weights, whose entries are independent.

    Args:
        prior: `"standard_normal"`; `"scaled_normal"`, whose standard deviation is
            `1 / sqrt(fan_in)` for kernels and 1 for all else (Neal, 1996); a `tfd.Distribution` of
            a single number, which all entries have; or a dict from patterns of `variable.path` to
            any of these.
        variables: The variables, the weights in the order that functions take them.
    """

    def __init__(self, prior: Any, variables: Sequence[keras.Variable]):
        choices = by_pattern("prior", prior, variables)
        self.distributions = [_prior_of(*pair) for pair in zip(choices, variables)]

    def log_prob(self, weights: Sequence[Any]) -> Any:
        """Returns the logarithm of the density of all weights together, a scalar."""
        pairs = zip(self.distributions, weights)
        return sum(ops.sum(distribution.log_prob(weight)) for distribution, weight in pairs)

    def sample(
        self, num_chains: int, shapes: Sequence[Any], generator: np.random.Generator
    ) -> list[Any]:
        """Returns draws, one for each chain, each of shape `(num_chains, *shape)`."""
        return [
            distribution.sample(
                (num_chains, *shape),
                seed=seed_of(generator.integers(2**31 - 1, size=2, dtype=np.int32)),
            )
            for distribution, shape in zip(self.distributions, shapes)
        ]


def _prior_of(choice, variable):
    if isinstance(unwrap(choice), tfd.Distribution):
        choice = unwrap(choice)
        if choice.batch_shape.rank or choice.event_shape.rank:
            raise ValueError(
                "`prior` as a distribution must be one of a single number, which all entries of a "
                f"weight have. Received: {choice}"
            )
        return choice
    check_choice("prior", choice, _NAMES)
    is_kernel = choice == "scaled_normal" and len(variable.shape) > 1
    fan_in = np.prod(variable.shape[:-1]) if is_kernel else 1.0
    return tfd.Normal(0.0, ops.convert_to_tensor(fan_in**-0.5, "float32"))
