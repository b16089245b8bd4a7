"""The continuous ranked probability score, in closed form or from draws."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import check_integer, check_seed
from keras_extras._core.distribution_kinds import (
    entries_of,
    is_mixture,
    is_multivariate_normal,
    mixture_weights,
)
from keras_extras._core.probability import is_floating, stateless_seed, tfd

# Of the docstrings of the loss and the metric.
DRAWS = """
        num_samples: Integer of at least 2, how many draws to take where there is no closed form.
            Defaults to `100`.
        seed: Integer seed of the draws. Defaults to `None`.
    """


class SampledScore:
    """The number and the seeds of the draws of a loss or metric."""

    def set_draws(self, num_samples: int, seed: int | None) -> None:
        self.num_samples = check_integer("num_samples", num_samples, minimum=2)
        self.seed = check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def score(self, y_true: Any, distribution: Any) -> Any:
        """Returns the score of each member of the batch."""
        return crps(
            distribution, y_true, self.num_samples, lambda: stateless_seed(self.seed_generator)
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()  # type: ignore[misc]  # of the loss or the metric
        return {**config, "num_samples": self.num_samples, "seed": self.seed}


def has_closed_form(distribution: Any) -> bool:
    """Whether `crps` needs no draws of a distribution."""
    distribution = entries_of(distribution)
    if is_mixture(distribution):
        return _are_normal(distribution.components_distribution)
    scalars = (tfd.Normal, tfd.Laplace, tfd.Logistic)
    return isinstance(distribution, scalars) or is_multivariate_normal(distribution)


def crps(distribution: Any, y: Any, num_samples: int, seed: Any) -> Any:
    """Returns the score of each member of the batch, summed over the entries of its event.

    Args:
        distribution: A `tfd.Distribution`.
        y: Tensor of shape `batch_shape + event_shape`.
        num_samples: Integer of at least 2, how many draws to take where there is no closed form.
        seed: Function of no arguments that returns a seed of the draws.

    Returns:
        Tensor of shape `batch_shape`.
    """
    rank = distribution.event_shape.rank
    distribution = entries_of(distribution)
    y = ops.cast(y, distribution.dtype if is_floating(distribution.dtype) else "float32")
    if has_closed_form(distribution):
        scores = _closed_form(distribution, y)
    else:
        draws = distribution.sample(num_samples, seed=seed())
        scores = _of_draws(ops.cast(draws, y.dtype), y)
    return ops.sum(scores, axis=tuple(range(-rank, 0)))


def _closed_form(distribution, y):
    """Scores of the entries. Sources: Gneiting and Raftery (2007), Jordan and others (2019)."""
    if is_mixture(distribution):
        return _of_normal_mixture(distribution, y)
    if is_multivariate_normal(distribution):
        return _of_normal(distribution.mean(), distribution.stddev(), y)
    loc, scale = distribution.loc, distribution.scale
    if isinstance(distribution, tfd.Normal):
        return _of_normal(loc, scale, y)
    z = ops.abs(y - loc) / scale
    if isinstance(distribution, tfd.Laplace):
        return scale * (z + ops.exp(-z) - 0.75)
    return scale * (z + 2.0 * ops.softplus(-z) - 1.0)


def _of_normal(loc, scale, y):
    return _mean_distance(y - loc, scale) - scale / math.sqrt(math.pi)


def _mean_distance(loc, scale):
    """E |X| for normal X."""
    z = loc / scale
    density = ops.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    return 2.0 * scale * density + loc * ops.erf(z / math.sqrt(2.0))


def _of_normal_mixture(mixture, y):
    """E |X - y| - 1/2 E |X - X'|, both sums over components; Grimit and others (2006)."""
    axis = -1 - mixture.event_shape.rank
    weights = mixture_weights(mixture)
    components = entries_of(mixture.components_distribution)
    loc, scale = components.mean(), components.stddev()
    to_target = _mean_distance(ops.expand_dims(y, axis) - loc, scale)
    differences = ops.expand_dims(loc, axis) - ops.expand_dims(loc, axis - 1)
    variances = ops.expand_dims(scale**2, axis) + ops.expand_dims(scale**2, axis - 1)
    apart = _mean_distance(differences, ops.sqrt(variances))
    pairs = ops.expand_dims(weights, axis) * ops.expand_dims(weights, axis - 1) * apart
    return ops.sum(weights * to_target, axis) - 0.5 * ops.sum(pairs, (axis - 1, axis))


def _are_normal(distribution):
    distribution = entries_of(distribution)
    return isinstance(distribution, tfd.Normal) or is_multivariate_normal(distribution)


def _of_draws(draws, y):
    """Unbiased: mean |X - y| - 1/2 of the mean distance of two different draws."""
    count = draws.shape[0]
    ranks = ops.convert_to_tensor(2 * np.arange(count) + 1 - count, y.dtype)
    # Far from zero the ranks would weigh rounded numbers against each other.
    errors = draws - y
    ordered = ops.sort(errors, axis=0)
    half_spread = ops.tensordot(ranks, ordered, axes=1) / float(count * (count - 1))
    return ops.mean(ops.abs(errors), axis=0) - half_spread
