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


def float_dtype(distribution: Any) -> Any:
    """Returns the dtype of probabilities of a distribution, also where draws are integers."""
    distribution = entries_of(distribution)
    if tf.as_dtype(distribution.dtype).is_floating:
        return tf.as_dtype(distribution.dtype)
    if is_mixture(distribution):
        return float_dtype(distribution.components_distribution)
    if _is_mixture_of_families(distribution):
        return float_dtype(distribution.components[0])
    if _is_reshaped(distribution):
        return float_dtype(distribution.distribution)
    for value in distribution.parameters.values():
        dtype = getattr(value, "dtype", None)
        if dtype is not None and tf.as_dtype(dtype).is_floating:
            return tf.as_dtype(dtype)
    return tf.float32


def _is_mixture_of_families(distribution):
    return hasattr(distribution, "cat") and hasattr(distribution, "components")


def _is_reshaped(distribution):
    return isinstance(distribution, tfd.BatchReshape | tfd.BatchBroadcast)


def _marginal(distribution):
    """The distribution of each entry of a draw, where it is known in closed form."""
    distribution = entries_of(distribution)
    if is_multivariate_normal(distribution):
        return tfd.Normal(distribution.mean(), distribution.stddev())
    if isinstance(distribution, tfd.OneHotCategorical):
        return tfd.Bernoulli(probs=distribution.probs_parameter(), dtype=distribution.dtype)
    if isinstance(distribution, tfd.Multinomial):
        total = tf.expand_dims(distribution.total_count, -1)
        return tfd.Binomial(total, probs=distribution.probs_parameter())
    if isinstance(distribution, tfd.Dirichlet):
        alpha = distribution.concentration
        return tfd.Beta(alpha, tf.reduce_sum(alpha, -1, keepdims=True) - alpha)
    return distribution


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
        NotImplementedError: If the distribution does not tell.
    """
    distribution = _marginal(distribution)
    rank = distribution.event_shape.rank
    if is_mixture(distribution):
        values = entrywise(
            method, distribution.components_distribution, tf.expand_dims(y, axis=-1 - rank)
        )
        weights = tf.cast(mixture_weights(distribution), values.dtype)
        return tf.reduce_sum(weights * values, axis=-1 - rank)
    if _is_mixture_of_families(distribution):
        weights = distribution.cat.probs_parameter()
        total = 0.0
        for i, component in enumerate(distribution.components):
            values = entrywise(method, component, y)
            weight = tf.cast(weights[..., i], values.dtype)
            total += values * tf.reshape(weight, (*weight.shape, *[1] * rank))
        return total
    if _is_reshaped(distribution):
        # Entries are in the same order; a reshape moves only the axes of the batch.
        inner = distribution.distribution
        shape = tf.concat([distribution.batch_shape_tensor(), distribution.event_shape_tensor()], 0)
        y = tf.broadcast_to(y, tf.broadcast_dynamic_shape(tf.shape(y), shape))
        if isinstance(distribution, tfd.BatchBroadcast):
            return entrywise(method, inner, y)
        lead = tf.shape(y)[: tf.rank(y) - tf.size(shape)]
        own = tf.concat([inner.batch_shape_tensor(), inner.event_shape_tensor()], 0)
        values = entrywise(method, inner, tf.reshape(y, tf.concat([lead, own], 0)))
        return tf.reshape(values, tf.shape(y))
    if rank:
        raise NotImplementedError(f"{distribution} does not tell of its entries one by one")
    return _of_single_numbers(method, distribution, y)


def _of_single_numbers(method, distribution, y):
    y = tf.convert_to_tensor(y)
    if isinstance(distribution, tfd.Deterministic):
        if method == "cdf":
            return tf.cast(distribution.loc <= tf.cast(y, distribution.loc.dtype), y.dtype)
        return tf.cast(tf.equal(distribution.loc, tf.cast(y, distribution.loc.dtype)), y.dtype)
    if method == "mass" and not is_discrete(distribution):
        return tf.zeros_like(y, float_dtype(distribution))
    if method != "cdf":
        return distribution.prob(tf.cast(y, distribution.dtype))
    if isinstance(distribution, tfd.Bernoulli):
        probs = distribution.probs_parameter()
        at_zero = tf.where(y < 1, 1.0 - probs, tf.ones_like(probs))
        return tf.where(y < 0, tf.zeros_like(at_zero), at_zero)
    if _counts(distribution):
        # TFP interpolates some distribution functions of counts, and refuses values below 0.
        inside = tf.maximum(tf.floor(y) if y.dtype.is_floating else y, tf.zeros_like(y))
        if tf.as_dtype(distribution.dtype).is_integer:
            inside = tf.minimum(inside, tf.cast(2.0**30, y.dtype))
        values = distribution.cdf(tf.cast(inside, distribution.dtype))
        return tf.where(y < 0, tf.zeros_like(values), values)
    if distribution.dtype != y.dtype:
        y = tf.cast(y, distribution.dtype)
    if is_discrete(distribution):
        return distribution.cdf(y)
    low, high = _support(distribution)
    values = distribution.cdf(tf.clip_by_value(y, low, high))
    values = tf.where(y <= low, tf.zeros_like(values), values)
    return tf.where(y >= high, tf.ones_like(values), values)


def _counts(distribution):
    own_lattice = (tfd.FiniteDiscrete, tfd.Empirical, tfd.QuantizedDistribution, tfd.Skellam)
    return is_discrete(distribution) and not isinstance(distribution, own_lattice)


def _support(distribution):
    """The ends of the support of a continuous distribution of single numbers."""
    largest = tf.constant(distribution.dtype.max, distribution.dtype)
    try:
        bijector = distribution.experimental_default_event_space_bijector()
        low, high = bijector.forward(-largest), bijector.forward(largest)
    except (NotImplementedError, AttributeError, TypeError):
        return -largest, largest
    low, high = tf.minimum(low, high), tf.maximum(low, high)
    low = tf.where(tf.math.is_nan(low), -largest, tf.maximum(low, -largest))
    return low, tf.where(tf.math.is_nan(high), largest, tf.minimum(high, largest))


def mixture_weights(mixture: Any) -> Any:
    """Returns the weights of components, with an axis of length 1 for each axis of the event."""
    weights = mixture.mixture_distribution.probs_parameter()
    for _ in range(mixture.event_shape.rank):
        weights = weights[..., None]
    return weights


def is_discrete(distribution: Any) -> bool:
    """Whether all probability lies on whole numbers, labels or other single values."""
    distribution = entries_of(distribution)
    if is_mixture(distribution):
        return is_discrete(distribution.components_distribution)
    if _is_mixture_of_families(distribution):
        return all(map(is_discrete, distribution.components))
    if _is_reshaped(distribution):
        return is_discrete(distribution.distribution)
    if isinstance(distribution, tfd.Deterministic | tfd.VectorDeterministic):
        return True
    if isinstance(distribution, tfd.FiniteDiscrete | tfd.Empirical):
        return True
    if isinstance(distribution, tfd.TransformedDistribution):
        return is_discrete(distribution.distribution)
    # What maps all real numbers to draws; of discrete distributions TFP has nothing to return.
    try:
        return distribution.experimental_default_event_space_bijector() is None
    except NotImplementedError:
        return not tf.as_dtype(distribution.dtype).is_floating


def takes_whole_numbers(distribution: Any) -> bool:
    """Whether draws are whole numbers, and not fractions with probabilities."""
    distribution = entries_of(distribution)
    if is_mixture(distribution):
        return takes_whole_numbers(distribution.components_distribution)
    if _is_mixture_of_families(distribution):
        return all(map(takes_whole_numbers, distribution.components))
    if _is_reshaped(distribution):
        return takes_whole_numbers(distribution.distribution)
    return _counts(distribution) and not isinstance(distribution, tfd.Deterministic)


def cdf_around(distribution: Any, y: Any) -> tuple[Any, Any]:
    """Returns the probabilities of less than `y` and of at most `y`, entry by entry.

    They differ wherever single values have a probability, in hurdle models at the hurdle only.
    """
    at = entrywise("cdf", distribution, y)
    # Not the distribution function at `y - 1`, which some distributions refuse for `y = 0`.
    return at - tf.cast(entrywise("mass", distribution, y), at.dtype), at


def quantile(distribution: Any, probability: Any, num_samples: int = 10_000) -> Any:
    """Returns the quantile of each entry: its own, by inverting the `cdf`, or from draws.

    It is the smallest value whose distribution function reaches the probability.

    Args:
        distribution: A `tfd.Distribution`.
        probability: Float between 0 and 1, or several, which then come along a first axis.
        num_samples: Integer, how many draws to take if the distribution has neither `quantile`
            nor `cdf`; ten thousand reach the probability within 0.02. Defaults to `10_000`.

    Returns:
        Tensor of shape `batch_shape + event_shape`.

    Raises:
        ValueError: If the distribution function does not reach the probability. Inside of a
            compiled function such entries are NaN.
    """
    if np.ndim(probability):
        return tf.stack([quantile(distribution, one, num_samples) for one in probability])
    distribution = _marginal(distribution)
    if isinstance(distribution, tfd.FiniteDiscrete):
        return _quantile_of_outcomes(distribution, probability)
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
    if is_discrete(distribution):
        raise NotImplementedError  # TFP interpolates, or counts from another end
    if _is_reshaped(distribution) or is_mixture(distribution):
        raise NotImplementedError
    values = distribution.quantile(probability)
    if probability in (0.0, 1.0):
        return values
    # TFP's inverses of the incomplete gamma and beta functions err here and there.
    try:
        reached = entrywise("cdf", distribution, values)
    except NotImplementedError:
        return values
    precision = float(np.sqrt(np.finfo(reached.dtype.as_numpy_dtype).eps)) * 0.03
    right = ~(tf.abs(reached - probability) > min(probability, 1.0 - probability) * precision)
    return tf.cond(
        tf.reduce_all(right),
        lambda: values,
        lambda: tf.where(right, values, _inverse_of_cdf(distribution, probability)),
    )


def _inverse_of_cdf(distribution, probability):
    if not tf.executing_eagerly():
        return _bisect(distribution, probability)[0]
    # As a graph, since the search takes as many steps as a number has bits.
    search = tf.function(lambda: _bisect(distribution, probability), autograph=False)
    values, found = search.get_concrete_function()()
    if not bool(tf.reduce_all(found)):
        raise ValueError(
            f"The distribution function of {distribution} does not reach a probability of "
            f"{probability}, so it has no such quantile. Received: probability={probability}"
        )
    return values


def _inside(distribution):
    """A value of each entry inside of the support, where that is known."""
    shape = tf.concat([distribution.batch_shape_tensor(), distribution.event_shape_tensor()], 0)
    zeros = tf.zeros(shape, float_dtype(distribution))
    try:
        bijector = distribution.experimental_default_event_space_bijector()
        return zeros if bijector is None else bijector.forward(zeros)
    except NotImplementedError:
        return zeros


def _quantile_of_outcomes(distribution, probability):
    """Of a `tfd.FiniteDiscrete`, whose distribution function takes values close to an outcome."""
    reached = tf.cumsum(distribution.probs_parameter(), axis=-1)
    slack = 4.0 * np.finfo(reached.dtype.as_numpy_dtype).eps
    index = tf.reduce_sum(tf.cast(reached < probability * (1.0 - slack), tf.int32), axis=-1)
    outcomes = distribution.outcomes
    return tf.gather(outcomes, tf.minimum(index, outcomes.shape[-1] - 1))


def _bisect(distribution, probability):
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
        values = entrywise("cdf", distribution, y)
        # Only steps are close to the probability but for rounding; in tails it would count.
        eps = np.finfo(values.dtype.as_numpy_dtype).eps
        slack = 4.0 * eps if is_discrete(distribution) else 0.0
        return tf.where(tf.math.is_nan(values), y > inside, values >= probability * (1.0 - slack))

    largest = tf.bitcast(tf.constant(dtype.max, dtype), integer)
    high = tf.fill(tf.shape(inside), largest)
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
    if probability in (0.0, 1.0):
        values = tf.where(tf.abs(values) < dtype.max, values, tf.sign(values) * np.inf)
        return values, tf.ones_like(values, tf.bool)
    is_nan = tf.math.is_nan(entrywise("cdf", distribution, values))
    found = tf.logical_and(tf.abs(values) < dtype.max, ~is_nan)
    # Parameters of NaN have quantiles of NaN.
    lost = tf.math.is_nan(entrywise("cdf", distribution, inside))
    values = tf.where(found & ~lost, values, tf.constant(np.nan, dtype))
    return values, found | lost
