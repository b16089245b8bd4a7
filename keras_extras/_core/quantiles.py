"""Quantiles of distributions, entry by entry."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.backend import is_compiling
from keras_extras._core.distribution_kinds import (
    entries_of,
    float_dtype,
    is_discrete,
    is_mixture,
    is_reshaped,
    is_transformed,
    unwrap,
)
from keras_extras._core.double_precision import double_precision, in_double
from keras_extras._core.marginals import entrywise, into_support, marginal
from keras_extras._core.precision import widest_float
from keras_extras._core.probability import is_floating, shape_of_draws, tf, tfd


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
            with double_precision():
                values = way(entries, probabilities)
        except NotImplementedError:
            continue
        return tf.reshape(values, (*given.shape, *ops.shape(values)[1:]))
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
    slack = 4.0 * _eps(reached.dtype)
    enough = tf.constant(probabilities * (1.0 - slack), reached.dtype)
    is_below = reached < tf.reshape(enough, (-1, *[1] * len(reached.shape)))
    index = tf.reduce_sum(tf.cast(is_below, tf.int32), axis=-1)
    outcomes = distribution.outcomes
    return tf.gather(outcomes, tf.minimum(index, ops.shape(outcomes)[-1] - 1))


def _eps(dtype):
    return float(np.finfo(keras.backend.standardize_dtype(dtype)).eps)


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
    precision = float(np.sqrt(_eps(values.dtype))) * 0.03
    wanted = tf.cast(wanted, reached.dtype)
    tail = tf.minimum(wanted, 1.0 - wanted)
    right = ~(tf.abs(reached - wanted) > tail * precision) | (tail == 0.0)

    def corrected():
        return tf.where(right, values, _inverse_of_cdf(distribution, probabilities))

    if is_compiling():
        return tf.cond(tf.reduce_all(right), lambda: values, corrected)
    return values if bool(tf.reduce_all(right)) else corrected()


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
    """Probabilities along an axis before those of a draw, once for each entry."""
    probabilities = tf.constant(probabilities, widest_float())
    ones = tf.ones(shape_of_draws(distribution), probabilities.dtype)
    return tf.tensordot(probabilities, ones, 0)


def _cdf(distribution, y):
    return in_double(
        lambda precise: entrywise("cdf", precise, tf.cast(y, float_dtype(precise))), distribution
    )


def _inverse_of_cdf(distribution, probabilities):
    if is_compiling():
        return _bisect(distribution, probabilities)[0]
    # As one program, since the search takes as many steps as a number has bits.
    values, found = _compiled(lambda: _bisect(distribution, probabilities))()
    if not bool(tf.reduce_all(found)):
        raise ValueError(
            f"The distribution function of {distribution} does not reach the probability, so it "
            f"has no such quantile. Received: probability={probabilities.tolist()}"
        )
    return values


def _compiled(function):
    if keras.backend.backend() == "tensorflow":
        return tf.function(function, autograph=False).get_concrete_function()
    import jax

    return jax.jit(function)


def _inside(distribution):
    """A value of each entry inside of the support, where that is known."""
    values = into_support(distribution, 0.0)
    if values is None:
        return tf.zeros(shape_of_draws(distribution), float_dtype(distribution))
    return values


def _bisect(distribution, probabilities):
    """Bisects the floating-point numbers in their order, so that no scale or support is assumed."""
    dtype = keras.backend.standardize_dtype(distribution.dtype)
    dtype = dtype if is_floating(dtype) else "float32"
    limits = np.finfo(dtype)
    bits = limits.bits
    integer = f"int{bits}"
    # A value inside of the support shows on which side of it a `cdf` without an answer lies.
    inside = tf.cast(_inside(distribution), dtype)

    def value_of(order):
        # Negative numbers are ordered the other way round by their bits.
        order = tf.where(order < 0, -(2 ** (bits - 1)) - order - 1, order)
        return tf.bitcast(order, dtype)

    def reached(y):
        values = _cdf(distribution, y)
        # Only steps are close to the probability but for rounding; in tails it would count.
        slack = 4.0 * _eps(float_dtype(distribution)) if is_discrete(distribution) else 0.0
        enough = tf.cast(wanted, values.dtype) * (1.0 - slack)
        return tf.where(tf.math.is_nan(values), y > inside, values >= enough)

    largest = limits.max
    wanted = _before_entries(probabilities, distribution)
    high = tf.zeros_like(wanted, integer) + tf.bitcast(tf.constant(largest, dtype), integer)
    low = -1 - high

    def halve(low, high):
        middle = (low & high) + ops.right_shift(low ^ high, 1)
        is_reached = reached(value_of(middle))
        return tf.where(is_reached, low, middle + 1), tf.where(is_reached, middle, high)

    _, (_, order) = tf.while_loop(
        lambda step, _: step < bits,
        lambda step, ends: (step + 1, halve(*ends)),
        (tf.constant(0), (low, high)),
    )
    values = value_of(order)
    # Processors round subnormal numbers to zero.
    values = tf.where(tf.abs(values) <= limits.tiny, tf.zeros_like(values), values)
    is_nan = tf.math.is_nan(_cdf(distribution, values))
    found = tf.logical_and(tf.abs(values) < largest, ~is_nan)
    # Parameters of NaN have quantiles of NaN.
    lost = tf.math.is_nan(_cdf(distribution, inside))
    at_ends = (wanted == 0.0) | (wanted == 1.0)
    ends = tf.where(tf.abs(values) < largest, values, tf.sign(values) * np.inf)
    values = tf.where(found & ~lost, values, tf.constant(np.nan, dtype))
    return tf.where(at_ends, ends, values), found | lost | at_ends
