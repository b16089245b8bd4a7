"""Distributions seen entry by entry: distribution functions, probabilities and quantiles."""

from typing import Any

import numpy as np

from keras_extras._core.probability import tf, tfd, tfp


def unwrap(distribution: Any) -> Any:
    """Returns the distribution that a layer's output stands for, or the distribution itself."""
    return getattr(distribution, "tensor_distribution", distribution)


def entries_of(distribution: Any) -> Any:
    """Returns what `Independent` distributions hold, or the distribution itself."""
    distribution = unwrap(distribution)
    # Not `isinstance`: `tfd.Independent(d)` has another class if `d` is no composite tensor.
    while hasattr(distribution, "reinterpreted_batch_ndims"):
        distribution = unwrap(distribution.distribution)
    return distribution


def is_mixture(distribution: Any) -> bool:
    """Whether it is a mixture of one family; `isinstance` fails as of `tfd.Independent`."""
    return hasattr(distribution, "components_distribution")


def is_multivariate_normal(distribution: Any) -> bool:
    """Whether each entry of draws is normal by itself, without saying so."""
    return isinstance(distribution, tfd.MultivariateNormalLinearOperator)


def entrywise(method: str, distribution: Any, y: Any) -> Any:
    """Returns `"cdf"` or `"prob"` of the marginal distribution of each entry.

    Args:
        method: `"cdf"` or `"prob"`.
        distribution: A `tfd.Distribution` of independent entries, a mixture of such, a
            multivariate normal distribution, or one of single numbers.
        y: Tensor of shape `batch_shape + event_shape`.

    Returns:
        Tensor of the shape of `y`.

    Raises:
        NotImplementedError: If the distribution does not tell.
    """
    distribution = entries_of(distribution)
    if is_mixture(distribution):
        rank = distribution.event_shape.rank
        values = entrywise(
            method, distribution.components_distribution, tf.expand_dims(y, axis=-1 - rank)
        )
        return tf.reduce_sum(mixture_weights(distribution) * values, axis=-1 - rank)
    if is_multivariate_normal(distribution):
        distribution = tfd.Normal(distribution.mean(), distribution.stddev())
    elif distribution.event_shape.rank:
        raise NotImplementedError(f"{distribution} does not tell of its entries one by one")
    return getattr(distribution, method)(y)


def mixture_weights(mixture: Any) -> Any:
    """Returns the weights of components, with an axis of length 1 for each axis of the event."""
    weights = mixture.mixture_distribution.probs_parameter()
    for _ in range(mixture.event_shape.rank):
        weights = weights[..., None]
    return weights


def is_discrete(distribution: Any) -> bool:
    """Whether draws are whole numbers or labels."""
    distribution = entries_of(distribution)
    if isinstance(distribution, tfd.Inflated):
        return is_discrete(distribution.distribution)
    if is_mixture(distribution):
        return is_discrete(distribution.components_distribution)
    # What maps all real numbers to draws; of discrete distributions TFP has nothing to return.
    return distribution.experimental_default_event_space_bijector() is None


def cdf_around(distribution: Any, y: Any) -> tuple[Any, Any]:
    """Returns the probabilities of less than `y` and of at most `y`, entry by entry."""
    at = entrywise("cdf", distribution, y)
    # Not the distribution function at `y - 1`, which some distributions refuse for `y = 0`.
    step = entrywise("prob", distribution, y) if is_discrete(distribution) else 0.0
    return at - step, at


def quantile(distribution: Any, probability: float, num_samples: int = 1000) -> Any:
    """Returns the quantile of each entry: its own, by inverting the `cdf`, or from draws.

    Args:
        distribution: A `tfd.Distribution`.
        probability: Float between 0 and 1.
        num_samples: Integer, how many draws to take if the distribution has neither `quantile`
            nor `cdf`. Defaults to `1000`.

    Returns:
        Tensor of shape `batch_shape + event_shape`.
    """
    distribution = entries_of(distribution)
    if is_multivariate_normal(distribution):
        distribution = tfd.Normal(distribution.mean(), distribution.stddev())
    for way in (_own_quantile, _inverse_of_cdf):
        try:
            return way(distribution, probability)
        except NotImplementedError:
            pass
    draws = distribution.sample(num_samples, seed=(0, 0))
    draws = draws if draws.dtype.is_floating else tf.cast(draws, tf.float32)
    interpolation = "nearest" if is_discrete(distribution) else "linear"
    return tfp.stats.percentile(draws, 100.0 * probability, axis=0, interpolation=interpolation)


def _own_quantile(distribution, probability):
    if isinstance(distribution, tfd.Beta) and probability == 0.5:
        probability += 1e-6  # TFP's inverse of the incomplete beta function errs at one half
    return distribution.quantile(probability)


def _inverse_of_cdf(distribution, probability):
    bounds = _bounds_of_mixture if is_mixture(distribution) else _bounds_by_moments
    low, high = bounds(distribution, probability)
    if is_discrete(distribution):
        return _whole_quantile(distribution, probability, tf.maximum(high, 0.0) + 1.0)
    return _root(lambda y: entrywise("cdf", distribution, y) - probability, low, high)


def _bounds_of_mixture(mixture, probability):
    """The quantile lies between those of the components."""
    values = quantile(mixture.components_distribution, probability)
    axis = -1 - mixture.event_shape.rank
    return tf.reduce_min(values, axis), tf.reduce_max(values, axis)


def _bounds_by_moments(distribution, probability):
    """Cantelli's inequality: no quantile lies further from the mean."""
    mean, stddev = distribution.mean(), distribution.stddev()
    odds = probability / (1.0 - probability)
    return mean - 1.01 * stddev * odds**-0.5, mean + 1.01 * stddev * odds**0.5


def _whole_quantile(distribution, probability, high):
    def excess(y):
        # The floor, because TFP interpolates some distribution functions of counts.
        return entrywise("cdf", distribution, tf.floor(y)) - probability

    low = tf.zeros_like(high)
    # The function steps at the quantile, and the search ends close to the step.
    return tf.where(excess(low) >= 0.0, 0.0, tf.floor(_root(excess, low, high) + 1e-3))


def _root(function, low, high):
    """The root between two ends, or the end that it lies at but for rounding."""
    smallest = np.finfo(low.dtype.as_numpy_dtype).tiny
    root = tfp.math.find_root_chandrupatla(
        function,
        low,
        high,
        position_tolerance=tf.maximum(1e-6 * (high - low), smallest),
        max_iterations=100,
    ).estimated_root
    root = tf.where(function(low) >= 0.0, low, root)
    return tf.where(function(high) <= 0.0, high, root)
