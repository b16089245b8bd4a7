"""Where targets lie in distributions, entry by entry: what coverage and PIT are computed from."""

import math
from typing import Any

import numpy as np
from keras import ops

from keras_extras._core.distribution_kinds import float_dtype
from keras_extras._core.double_precision import double_precision, in_double
from keras_extras._core.marginals import entrywise, marginal
from keras_extras._core.probability import seed_of, tf, tfd


def cdf_around(distribution: Any, targets: Any) -> tuple[Any, Any]:
    """Returns the probabilities of less than targets and of at most targets, entry by entry.

    They differ wherever single values have a probability, in hurdle models at the hurdle only.
    Where the distribution has no closed form, they are shares of 1,000 draws.
    """
    distribution = marginal(distribution)

    def of(distribution):
        y = _nearest_value(distribution, targets)
        at = entrywise("cdf", distribution, y)
        # Not the distribution function at `y - 1`, which some distributions refuse for `y = 0`.
        return at - tf.cast(entrywise("mass", distribution, y), at.dtype), at

    def rounded(ends):
        return tuple(tf.cast(end, float_dtype(distribution)) for end in ends)

    try:
        with double_precision():
            return rounded(in_double(of, distribution))
    except NotImplementedError:
        return rounded(_shares_of_draws(distribution, targets))


def _nearest_value(distribution, y):
    """Targets as the distribution writes them: outcomes in its precision, angles in its turn."""
    y = tf.convert_to_tensor(y)
    if isinstance(distribution, tfd.FiniteDiscrete):
        outcomes = distribution.outcomes
        y = tf.cast(y, outcomes.dtype)
        nearest = tf.gather(outcomes, tf.argmin(tf.abs(outcomes - y[..., None]), axis=-1))
        return tf.where(tf.abs(nearest - y) <= 1e-6 * tf.abs(nearest), nearest, y)
    if isinstance(distribution, tfd.VonMises):
        turns = tf.round((tf.cast(y, distribution.dtype) - distribution.loc) / (2.0 * math.pi))
        return tf.cast(y, turns.dtype) - 2.0 * math.pi * turns
    return y


def _shares_of_draws(distribution, y, rounds=20, num_samples=50):
    y = tf.cast(y, float_dtype(distribution))
    rank = len(distribution.batch_shape) + len(distribution.event_shape)
    lead = [1] * (len(y.shape) - rank)

    def count(number, less, at_most):
        draws = tf.cast(
            distribution.sample(num_samples, seed=seed_of(tf.stack([number, 0]))), y.dtype
        )
        draws = tf.reshape(draws, (num_samples, *lead, *ops.shape(draws)[1:]))
        less += tf.reduce_mean(tf.cast(draws < y, tf.float32), axis=0)
        at_most += tf.reduce_mean(tf.cast(draws <= y, tf.float32), axis=0)
        return number + 1, less, at_most

    zeros = tf.zeros(ops.shape(y))
    _, less, at_most = tf.while_loop(
        lambda number, *_: number < rounds, count, (0, zeros, zeros), parallel_iterations=1
    )
    lost = tf.where(tf.math.is_nan(tf.cast(y, tf.float32)), np.nan, 1.0)
    return lost * less / rounds, lost * at_most / rounds
