"""Where a search with priors starts."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.vectorized_map import vectorized_map
from keras_extras.optimizers.parameter import Parameter
from keras_extras.optimizers.population import best_of


def start_from_priors(
    parameters: Sequence[Parameter],
    count: int,
    seed_generator: keras.random.SeedGenerator,
    losses_of: Callable[[list[Any]], Any],
) -> None:
    """Moves the search to the best of draws from the priors, unless none is better.

    Args:
        parameters: The parameters; those without a prior stay as they are.
        count: Integer, the number of draws.
        seed_generator: Of the draws.
        losses_of: Function from candidates, a tensor of shape `(population, *shape)` for each
            parameter, to their losses.
    """
    candidates = []
    for p in parameters:
        here = ops.cast(p.coordinates, "float32")
        if p.prior is None:
            drawn = ops.broadcast_to(here, (count, *here.shape))
        else:
            drawn = p.prior.sample((count, *here.shape), seed_generator)
            drawn = vectorized_map(p.to_coordinates, drawn)
        candidates.append(ops.concatenate([here[None], drawn]))
    for p, best in zip(parameters, best_of(candidates, losses_of(candidates))[0]):
        p.coordinates.assign(ops.cast(best, p.coordinates.dtype))
        p.kept.assign(ops.cast(best, p.kept.dtype))
