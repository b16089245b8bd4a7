"""Quantiles of distributions, entry by entry."""

from typing import Any

import numpy as np

from keras_extras._core.distribution_kinds import (
    entries_of,
    float_dtype,
    is_discrete,
    is_mixture,
    is_reshaped,
    is_transformed,
    unwrap,
)
from keras_extras._core.double_precision import in_double
from keras_extras._core.marginals import entrywise, into_support, marginal
from keras_extras._core.probability import tf, tfd


def quantile(distribution: Any, probability: Any) -> Any:
    """Returns the quantile of each entry: its own, or by inverting the `cdf`.

    It is the smallest value whose distribution function reaches the probability.

    Args:
        distribution: A `tfd.Distribution`.
        probability: Float between 0 and 1, or several, which then come along a first axis.

    Returns:
        Tensor of shape `batch_shape + event_shape`.

    Raises:
        NotImplementedError: If the distribution of an entry has neither `quantile` nor `cdf`.
        ValueError: If the distribution function does not reach the probability. Inside of a
            compiled function such entries are NaN. Also if a probability is not between 0 and 1.
    """
    given = np.asarray(probability)
    if not np.issubdtype(given.dtype, np.number) or not np.all((given >= 0.0) & (given <= 1.0)):
        raise ValueError(
            "A quantile needs probabilities, numbers between 0 and 1, such as 0.9 for 90 %. "
            f"Received: {probability!r}"
        )
    entries = marginal(distribution)
    probabilities = np.reshape(given.astype("float64"), [-1])
    for way in (_of_outcomes, _own_quantile, _inverse_of_cdf):
        try:
            values = way(entries, probabilities)
        except NotImplementedError:
            continue
        return tf.reshape(values, tf.concat([given.shape, tf.shape(values)[1:]], 0))
    raise NotImplementedError(
        f"{type(entries_of(distribution)).__name__} has neither `quantile` nor `cdf`, so its "
        "quantiles are not known exactly. Take them from draws: "
        "`tfp.stats.percentile(distribution.sample(100_000), 100 * probability, axis=0)`. "
        f"Received: {distribution}"
    )


def _of_outcomes(distribution, probabilities):
    """Of a `tfd.FiniteDiscrete`, whose distribution function takes values close to an outcome."""
    if not isinstance(distribution, tfd.FiniteDiscrete):
        raise NotImplementedError
    reached = tf.cumsum(distribution.probs_parameter(), axis=-1)
    slack = 4.0 * np.finfo(reached.dtype.as_numpy_dtype).eps
    enough = tf.constant(probabilities * (1.0 - slack), reached.dtype)
    is_below = reached < tf.reshape(enough, (-1, *[1] * reached.shape.rank))
    index = tf.reduce_sum(tf.cast(is_below, tf.int32), axis=-1)
    outcomes = distribution.outcomes
    return tf.gather(outcomes, tf.minimum(index, tf.shape(outcomes)[-1] - 1))


def _own_quantile(distribution, probabilities):
    if is_discrete(distribution):
        raise NotImplementedError  # TFP interpolates, or counts from another end.
    if _is_searched(distribution):
        raise NotImplementedError  # TFP's own search is no faster, and errs here and there.
    if is_reshaped(distribution) or is_mixture(distribution) or distribution.event_shape.rank:
        raise NotImplementedError  # Not known to be one of each entry.
    wanted = _before_entries(probabilities, distribution)
    values = distribution.quantile(tf.cast(wanted, distribution.dtype))
    try:
        reached = _cdf(distribution, values)
    except NotImplementedError:
        return values
    precision = float(np.sqrt(np.finfo(values.dtype.as_numpy_dtype).eps)) * 0.03
    wanted = tf.cast(wanted, reached.dtype)
    tail = tf.minimum(wanted, 1.0 - wanted)
    right = ~(tf.abs(reached - wanted) > tail * precision) | (tail == 0.0)
    return tf.cond(
        tf.reduce_all(right),
        lambda: values,
        lambda: tf.where(right, values, _inverse_of_cdf(distribution, probabilities)),
    )


def _is_searched(distribution):
    """Whether quantiles are inverse incomplete gamma and beta functions, perhaps transformed."""
    if is_transformed(distribution):
        return _is_searched(unwrap(distribution.distribution))
    kinds = (
        *(tfd.Beta, tfd.Chi, tfd.Chi2, tfd.ExpGamma, tfd.Gamma, tfd.InverseGamma),
        *(tfd.NoncentralChi2, tfd.SigmoidBeta, tfd.StudentT, tfd.TwoPieceStudentT),
    )
    return isinstance(distribution, kinds)


def _before_entries(probabilities, distribution):
    """Probabilities along an axis before those of a draw."""
    shape = _shape(distribution)
    return tf.reshape(tf.constant(probabilities), tf.concat([[-1], tf.ones_like(shape)], 0))


def _shape(distribution):
    return tf.concat([distribution.batch_shape_tensor(), distribution.event_shape_tensor()], 0)


def _cdf(distribution, y):
    return in_double(
        lambda precise: entrywise("cdf", precise, tf.cast(y, float_dtype(precise))), distribution
    )


def _inverse_of_cdf(distribution, probabilities):
    if not tf.executing_eagerly():
        return _bisect(distribution, probabilities)[0]
    # As a graph, since the search takes as many steps as a number has bits.
    search = tf.function(lambda: _bisect(distribution, probabilities), autograph=False)
    values, found = search.get_concrete_function()()
    if not bool(tf.reduce_all(found)):
        raise ValueError(
            f"The distribution function of {distribution} does not reach the probability, so it "
            f"has no such quantile. Received: probability={probabilities.tolist()}"
        )
    return values


def _inside(distribution):
    """A value of each entry inside of the support, where that is known."""
    values = into_support(distribution, 0.0)
    return tf.zeros(_shape(distribution), float_dtype(distribution)) if values is None else values


def _bisect(distribution, probabilities):
    """Bisects the floating-point numbers in their order, so that no scale or support is assumed."""
    dtype = tf.as_dtype(distribution.dtype)
    dtype = dtype if dtype.is_floating else tf.float32
    integer = {2: tf.int16, 4: tf.int32, 8: tf.int64}[dtype.size]
    # A value inside of the support shows on which side of it a `cdf` without an answer lies.
    inside = tf.cast(_inside(distribution), dtype)

    def value_of(order):
        # Negative numbers are ordered the other way round by their bits.
        return tf.bitcast(tf.where(order < 0, integer.min - order - 1, order), dtype)

    def reached(y):
        values = _cdf(distribution, y)
        # Only steps are close to the probability but for rounding; in tails it would count.
        eps = np.finfo(float_dtype(distribution).as_numpy_dtype).eps
        slack = 4.0 * eps if is_discrete(distribution) else 0.0
        enough = tf.cast(wanted, values.dtype) * (1.0 - slack)
        return tf.where(tf.math.is_nan(values), y > inside, values >= enough)

    largest = tf.bitcast(tf.constant(dtype.max, dtype), integer)
    wanted = _before_entries(probabilities, distribution)
    high = tf.fill(tf.concat([tf.shape(wanted)[:1], tf.shape(inside)], 0), largest)
    low = -1 - high

    def halve(low, high):
        middle = (low & high) + tf.bitwise.right_shift(low ^ high, tf.ones_like(low))
        is_reached = reached(value_of(middle))
        return tf.where(is_reached, low, middle + 1), tf.where(is_reached, middle, high)

    steps = 8 * dtype.size
    _, (_, order) = tf.while_loop(
        lambda step, _: step < steps,
        lambda step, ends: (step + 1, halve(*ends)),
        (0, (low, high)),
    )
    values = value_of(order)
    # Processors round subnormal numbers to zero.
    values = tf.where(
        tf.abs(values) <= np.finfo(dtype.as_numpy_dtype).tiny, tf.zeros_like(values), values
    )
    is_nan = tf.math.is_nan(_cdf(distribution, values))
    found = tf.logical_and(tf.abs(values) < dtype.max, ~is_nan)
    # Parameters of NaN have quantiles of NaN.
    lost = tf.math.is_nan(_cdf(distribution, inside))
    at_ends = (wanted == 0.0) | (wanted == 1.0)
    ends = tf.where(tf.abs(values) < dtype.max, values, tf.sign(values) * np.inf)
    values = tf.where(found & ~lost, values, tf.constant(np.nan, dtype))
    return tf.where(at_ends, ends, values), found | lost | at_ends
