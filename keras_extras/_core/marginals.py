"""Distributions seen entry by entry: distribution functions and probabilities."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.backend import is_traced
from keras_extras._core.distribution_kinds import (
    counts,
    entries_of,
    float_dtype,
    is_a,
    is_discrete,
    is_mixture,
    is_mixture_of_families,
    is_multivariate_normal,
    is_reshaped,
    is_transformed,
    mixture_weights,
)
from keras_extras._core.incomplete_beta import beta_cdf
from keras_extras._core.incomplete_gamma import gamma_cdf
from keras_extras._core.probability import (
    is_floating,
    joined_shape,
    shape_of_draws,
    tf,
    tfd,
)


def marginal(distribution: Any) -> Any:
    """Returns the distribution of each entry of a draw, or, where it is not known, the given one.

    What is known has an event shape of `()`, and a batch shape that ends in the axes of the event.

    Args:
        distribution: A `tfd.Distribution`.
    """
    distribution = entries_of(distribution)
    if hasattr(distribution, "get_marginal_distribution"):  # Of a process, at its index points.
        distribution = entries_of(distribution.get_marginal_distribution())
    if is_multivariate_normal(distribution):
        return tfd.Normal(distribution.mean(), distribution.stddev())
    if isinstance(distribution, tfd.MultivariateStudentTLinearOperator):
        factor = distribution.scale.to_dense()
        scale = tf.sqrt(tf.reduce_sum(factor**2, axis=-1))
        return tfd.StudentT(tf.expand_dims(distribution.df, -1), distribution.loc, scale)
    if isinstance(distribution, tfd.OneHotCategorical):
        return tfd.Bernoulli(probs=distribution.probs_parameter(), dtype=distribution.dtype)
    if isinstance(distribution, tfd.ProbitBernoulli):
        return tfd.Bernoulli(probs=distribution.probs_parameter(), dtype=distribution.dtype)
    if isinstance(distribution, tfd.Multinomial):
        total = tf.expand_dims(distribution.total_count, -1)
        return tfd.Binomial(total, probs=distribution.probs_parameter())
    if isinstance(distribution, tfd.Dirichlet):
        alpha = distribution.concentration
        return tfd.Beta(alpha, tf.reduce_sum(alpha, -1, keepdims=True) - alpha)
    if isinstance(distribution, tfd.DirichletMultinomial):
        alpha = distribution.concentration
        rest = tf.reduce_sum(alpha, -1, keepdims=True) - alpha
        return _outcomes(tfd.BetaBinomial(distribution.total_count[..., None], alpha, rest))
    if isinstance(distribution, tfd.BetaBinomial):
        return _outcomes(distribution)
    if isinstance(distribution, tfd.VectorDeterministic):
        return tfd.Deterministic(distribution.loc)
    if is_a(distribution, tfd.Sample):
        return _of_sample(distribution)
    if _is_transformed_by_entry(distribution):
        inner = marginal(distribution.distribution)
        if inner.event_shape.rank == 0:
            return tfd.TransformedDistribution(inner, distribution.bijector)
    return distribution


def _outcomes(distribution):
    """A distribution of bounded counts that has no distribution function, count by count."""
    counts = tf.range(_most(distribution.total_count) + 1.0)
    by_count = tf.reshape(counts, (-1, *[1] * distribution.batch_shape.rank))
    possible = by_count <= distribution.total_count
    probs = tf.where(
        possible, distribution.prob(tf.minimum(by_count, distribution.total_count)), 0.0
    )
    probs = tf.transpose(probs, (*range(1, len(probs.shape)), 0))
    return tfd.FiniteDiscrete(counts, probs=probs)


def _most(total_count):
    if keras.backend.backend() == "tensorflow":
        return tf.reduce_max(total_count)
    if is_traced(total_count):
        raise NotImplementedError(
            "A program that JAX compiles must know how many counts a distribution has, and "
            "`total_count` depends on its inputs. Call it outside of the program, or compile the "
            "model with `run_eagerly=True`"
        )
    return np.max(total_count)


def _of_sample(distribution):
    """Axes of the sample lie between those of the batch and those of one event."""
    inner = marginal(distribution.distribution)
    if inner.event_shape.rank:
        return distribution
    rank = distribution.distribution.event_shape.rank
    sample, shape = distribution.sample_shape, inner.batch_shape_tensor()
    batch, event = (shape[:-rank], shape[-rank:]) if rank else (shape, [])
    ones = [1] * (distribution.event_shape.rank - rank)
    thin = tfd.BatchReshape(inner, joined_shape(batch, ones, event))
    return tfd.BatchBroadcast(thin, joined_shape(batch, sample, event))


def _is_transformed_by_entry(distribution):
    return (
        is_a(distribution, tfd.TransformedDistribution)
        and distribution.event_shape.rank != 0
        and distribution.bijector.forward_min_event_ndims == 0
    )


def entrywise(method: str, distribution: Any, y: Any) -> Any:
    """Returns `"cdf"`, `"prob"` or `"mass"` of the marginal distribution of each entry.

    Args:
        method: `"cdf"`, `"prob"`, or `"mass"`, the probability of exactly `y`, which is 0 where
            the distribution is continuous.
        distribution: A `tfd.Distribution` of independent entries, a mixture of such, a
            multivariate normal distribution, or one of single numbers.
        y: Tensor of shape `batch_shape + event_shape`.

    Returns:
        Tensor of the shape of `y`.

    Raises:
        NotImplementedError: If the distribution has no known marginals.
    """
    distribution = marginal(distribution)
    rank = distribution.event_shape.rank
    if is_mixture(distribution):
        values = entrywise(
            method, distribution.components_distribution, tf.expand_dims(y, axis=-1 - rank)
        )
        weights = tf.cast(mixture_weights(distribution), values.dtype)
        return tf.reduce_sum(weights * values, axis=-1 - rank)
    if is_mixture_of_families(distribution):
        weights = distribution.cat.probs_parameter()
        total = 0.0
        for i, component in enumerate(distribution.components):
            values = entrywise(method, component, y)
            weight = tf.cast(weights[..., i], values.dtype)
            total += values * tf.reshape(weight, (*weight.shape, *[1] * rank))
        return total
    if is_reshaped(distribution):
        return _of_reshaped(method, distribution, y)
    if rank:
        raise NotImplementedError(f"{distribution} does not tell of its entries one by one")
    return _of_single_numbers(method, distribution, y)


def _of_reshaped(method, distribution, y):
    inner = distribution.distribution
    y = tf.convert_to_tensor(y)
    y += tf.zeros(shape_of_draws(distribution), y.dtype)
    if is_a(distribution, tfd.BatchBroadcast):
        return entrywise(method, inner, y)
    sizes = distribution.batch_shape.concatenate(distribution.event_shape)
    rank = len(y.shape)
    lead = rank - sizes.rank
    # Axes along which `y` may have many values for one entry lead; the others are in one order.
    wide = [lead + axis for axis, size in enumerate(sizes) if size == 1]
    order = [*range(lead), *wide]
    order += [axis for axis in range(rank) if axis not in order]
    moved = tf.transpose(y, order)
    by_entry = joined_shape(ops.shape(moved)[: lead + len(wide)], shape_of_draws(inner))
    values = entrywise(method, inner, tf.reshape(moved, by_entry))
    return tf.transpose(tf.reshape(values, ops.shape(moved)), np.argsort(order))


def _of_single_numbers(method, distribution, y):
    y = tf.convert_to_tensor(y)
    if isinstance(distribution, tfd.Deterministic):
        if method == "cdf":
            return tf.cast(distribution.loc <= tf.cast(y, distribution.loc.dtype), y.dtype)
        return tf.cast(tf.equal(distribution.loc, tf.cast(y, distribution.loc.dtype)), y.dtype)
    if isinstance(distribution, tfd.FiniteDiscrete | tfd.Categorical):
        # Of the first TFP's takes values near an outcome for it, of the other JAX compiles none.
        probs = distribution.probs_parameter()
        labels = tf.cast(tf.range(ops.shape(probs)[-1]), probs.dtype)
        outcomes = getattr(distribution, "outcomes", labels)
        value = tf.cast(y, outcomes.dtype)[..., None]
        chosen = outcomes <= value if method == "cdf" else tf.equal(outcomes, value)
        return tf.reduce_sum(tf.where(chosen, probs, tf.zeros_like(probs)), axis=-1)
    if method == "mass" and not is_discrete(distribution):
        return tf.zeros_like(y, float_dtype(distribution))
    if method != "cdf":
        return distribution.prob(tf.cast(y, distribution.dtype))
    if isinstance(distribution, tfd.Bernoulli):
        probs = distribution.probs_parameter()
        at_zero = tf.where(y < 1, 1.0 - probs, tf.ones_like(probs))
        return tf.where(y < 0, tf.zeros_like(at_zero), at_zero)
    if counts(distribution):
        # TFP interpolates some distribution functions of counts, and refuses values below 0.
        inside = tf.maximum(tf.floor(y) if is_floating(y.dtype) else y, tf.zeros_like(y))
        if not is_floating(distribution.dtype):
            inside = tf.minimum(inside, tf.cast(2.0**30, y.dtype))
        values = _own_cdf(distribution, tf.cast(inside, distribution.dtype))
        return tf.where(y < 0, tf.zeros_like(values), values)
    if distribution.dtype != y.dtype:
        y = tf.cast(y, distribution.dtype)
    if is_discrete(distribution):
        return distribution.cdf(y)
    low, high = _support(distribution)
    values = _own_cdf(distribution, tf.minimum(tf.maximum(y, low), high))
    values = tf.where(y <= low, tf.zeros_like(values), values)
    return tf.where(y >= high, tf.ones_like(values), values)


def _own_cdf(distribution, y):
    for known in (gamma_cdf, beta_cdf):
        values = known(distribution, y)
        if values is not None:
            return values
    if isinstance(distribution, tfd.InverseGaussian):
        # TFP's is NaN where the exponential overflows.
        loc, shape = distribution.loc, distribution.concentration
        root, normal = tf.sqrt(shape / y), tfd.Normal(tf.zeros_like(loc), 1.0)
        return normal.cdf(root * (y / loc - 1.0)) + tf.exp(
            2.0 * shape / loc + normal.log_cdf(-root * (y / loc + 1.0))
        )
    if isinstance(distribution, tfd.NoncentralChi2):
        # TFP's falls again far beyond all mass.
        end = 1e3 * (distribution.df + distribution.noncentrality + 100.0)
        return tf.where(y < end, distribution.cdf(tf.minimum(y, end)), tf.ones_like(y))
    if is_transformed(distribution):
        return _cdf_of_transformed(distribution, y)
    return distribution.cdf(y)


def _cdf_of_transformed(distribution, y):
    base = entries_of(distribution.distribution)
    one, other = into_support(base, 0.0), into_support(base, 1.0)
    forward = distribution.bijector.forward
    if one is None or base.event_shape.rank or is_discrete(base):
        return distribution.cdf(y)
    reached = _of_single_numbers("cdf", base, distribution.bijector.inverse(y))
    return tf.where(forward(one) <= forward(other), reached, 1.0 - reached)


def into_support(distribution: Any, value: float) -> Any:
    """Returns a real number mapped to where draws lie, or None where that is not known.

    Args:
        distribution: A `tfd.Distribution`.
        value: The number.

    Returns:
        Tensor of shape `batch_shape + event_shape`.
    """
    shape = shape_of_draws(distribution)
    if is_a(distribution, tfd.BatchBroadcast):
        values = into_support(distribution.distribution, value)
        return None if values is None else tf.broadcast_to(values, shape)
    try:
        bijector = distribution.experimental_default_event_space_bijector()
    except (NotImplementedError, TypeError):  # A TypeError is TFP's own, with NumPy 2.
        return None
    if bijector is None:
        return None
    values = tf.fill(shape, tf.constant(value, float_dtype(distribution)))
    for dtype in (values.dtype, "float32"):  # Some of TFP's bijectors hold constants of float32.
        try:
            return tf.cast(bijector.forward(tf.cast(values, dtype)), values.dtype)
        except (TypeError, ValueError, tf.errors.InvalidArgumentError):
            pass
    return None


def _support(distribution):
    """The ends of the support of a continuous distribution of single numbers."""
    if isinstance(distribution, tfd.VonMises):
        return distribution.loc - math.pi, distribution.loc + math.pi
    largest = np.finfo(keras.backend.standardize_dtype(distribution.dtype)).max
    low, high = into_support(distribution, -largest), into_support(distribution, largest)
    if low is None:
        low, high = (tf.constant(end, distribution.dtype) for end in (-largest, largest))
    low, high = tf.minimum(low, high), tf.maximum(low, high)
    low = tf.where(tf.math.is_nan(low), -largest, tf.maximum(low, -largest))
    return low, tf.where(tf.math.is_nan(high), largest, tf.minimum(high, largest))
