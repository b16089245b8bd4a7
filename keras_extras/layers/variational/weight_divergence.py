"""The Kullback-Leibler divergence of the posterior of a weight from its prior."""

from typing import Any

from keras_extras._core.marginals import entries_of
from keras_extras._core.probability import tf, tfd
from keras_extras._core.registration import serializable


def normal_entries(distribution: Any) -> Any:
    """Returns the `tfd.Normal` of the entries of a weight; None if they are not normal."""
    entries = entries_of(distribution)
    return entries if isinstance(entries, tfd.Normal) else None


@serializable
def weight_divergence(posterior: Any, prior: Any, weight: Any) -> Any:
    """Returns KL(posterior, prior), summed over the entries of the weight.

    It is exact between normal distributions and whatever pairs TFP knows. Of others it is
    estimated at the draw, log q(w) - log p(w), whose mean is the divergence.

    Args:
        posterior: Distribution of the weight.
        prior: Distribution of the weight.
        weight: The draw of the posterior that the layer computes with.

    Returns:
        Scalar tensor.
    """
    q, p = normal_entries(posterior), normal_entries(prior)
    if q is not None and p is not None:
        return _between_normals(q, p, posterior.event_shape)
    if p is not None and _is_reshaped(posterior):
        size = posterior.distribution.event_shape
        loc, scale = (
            tf.reshape(tf.broadcast_to(value, posterior.event_shape), size)
            for value in (p.loc, p.scale)
        )
        return tfd.kl_divergence(
            posterior.distribution, tfd.MultivariateNormalDiag(loc, scale_diag=scale)
        )
    try:
        return tfd.kl_divergence(posterior, prior)
    except NotImplementedError:
        return posterior.log_prob(weight) - prior.log_prob(weight)


def _between_normals(q, p, shape):
    """The closed form; sums of squares in one pass each, as weights are many."""
    loc = tf.get_static_value(p.loc)
    difference = q.loc - p.loc if loc is None or loc.any() else q.loc
    if p.scale.shape.rank:
        z, ratio = difference / p.scale, q.scale / p.scale
    else:
        z, ratio = difference, q.scale
    if not z.shape == ratio.shape == shape:
        z, ratio = tf.broadcast_to(z, shape), tf.broadcast_to(ratio, shape)
    squares = tf.nn.l2_loss(z) + tf.nn.l2_loss(ratio)
    logarithms = tf.reduce_sum(tf.math.log(ratio))
    count = float(shape.num_elements())
    if not p.scale.shape.rank:
        squares /= tf.square(p.scale)
        logarithms -= count * tf.math.log(p.scale)
    return squares - logarithms - 0.5 * count


def _is_reshaped(distribution):
    """Whether it is the ready-made posterior with all covariances."""
    inner = getattr(distribution, "distribution", None)
    return isinstance(distribution, tfd.TransformedDistribution) and isinstance(
        inner, tfd.MultivariateNormalTriL
    )
