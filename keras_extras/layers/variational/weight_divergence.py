"""The Kullback-Leibler divergence of the posterior of a weight from its prior."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.distribution_kinds import entries_of, is_a
from keras_extras._core.probability import tf, tfd

EXACT = "kl_divergence"  # The divergence in closed form where there is one.


def normal_entries(distribution: Any) -> Any:
    """Returns the `tfd.Normal` of the entries of a weight; None if they are not normal."""
    entries = entries_of(distribution)
    return entries if isinstance(entries, tfd.Normal) else None


def closed_form(posterior: Any, prior: Any) -> Any:
    """Returns KL(posterior, prior), summed over the entries of the weight.

    Args:
        posterior: Distribution of the weight.
        prior: Distribution of the weight.

    Returns:
        Scalar tensor; None if the pair has no closed form.
    """
    q, p = normal_entries(posterior), normal_entries(prior)
    if q is not None and p is not None:
        return _between_normals(q, p, posterior.event_shape)
    if p is not None and _is_reshaped(posterior):
        size = posterior.distribution.event_shape
        loc, scale = (
            ops.reshape(ops.broadcast_to(value, tuple(posterior.event_shape)), tuple(size))
            for value in (p.loc, p.scale)
        )
        return tfd.kl_divergence(
            posterior.distribution, tfd.MultivariateNormalDiag(loc, scale_diag=scale)
        )
    try:
        return tfd.kl_divergence(posterior, prior)
    except NotImplementedError:
        return None


def estimate(posterior: Any, prior: Any, weight: Any) -> Any:
    """Returns log q(w) - log p(w) at a draw w of the posterior q, whose mean is KL(q, p)."""
    return posterior.log_prob(weight) - prior.log_prob(weight)


class WeightDivergence(keras.regularizers.Regularizer):
    """The divergence of a weight as the regularizer of one of its variables.

    Keras adds the penalty of a variable once to the losses, however often its layer is called, and
    outside of the loops that a layer may be called in.

    Args:
        variables: The variables of the posterior and the prior.
        divergence: Function without arguments that returns the divergence.
    """

    def __init__(self, variables: Sequence[keras.Variable], divergence: Callable[[], Any]):
        self._variables = variables
        self._divergence = divergence
        self._holder: keras.Variable | None = None
        self._other: Callable[[Any], Any] | None = None
        self.place()

    def __call__(self, x: Any) -> Any:
        divergence = self._divergence()
        return divergence if self._other is None else divergence + self._other(x)

    def place(self) -> None:
        """Moves it to the first variable that is trained, because Keras asks no other."""
        if self._holder is not None:
            if self._holder.trainable:
                return
            self._holder.regularizer = self._other
        self._holder = next((v for v in self._variables if v.trainable), None)
        if self._holder is not None:
            self._other = self._holder.regularizer
            self._holder.regularizer = self


def _between_normals(q, p, shape):
    """The closed form; sums of squares in one pass each, as weights are many."""
    shape = tuple(shape)
    difference = q.loc if _is_constant_zero(p.parameters["loc"]) else q.loc - p.loc
    is_common_scale = not len(p.scale.shape)
    if is_common_scale:
        z, ratio = difference, q.scale
    else:
        z, ratio = difference / p.scale, q.scale / p.scale
    if not tuple(z.shape) == tuple(ratio.shape) == shape:
        z, ratio = ops.broadcast_to(z, shape), ops.broadcast_to(ratio, shape)
    squares = _half_sum_of_squares(z) + _half_sum_of_squares(ratio)
    logarithms = ops.sum(ops.log(ratio))
    count = float(math.prod(shape))
    if is_common_scale:
        squares /= ops.square(p.scale)
        logarithms -= count * ops.log(p.scale)
    return squares - logarithms - 0.5 * count


def _is_constant_zero(value):
    # A tensor may be zero now, and have a gradient.
    return isinstance(value, np.ndarray | float | int) and not np.any(value)


def _half_sum_of_squares(values):
    if keras.backend.backend() == "tensorflow":
        return tf.nn.l2_loss(values)
    return 0.5 * ops.sum(ops.square(values))


def _is_reshaped(distribution):
    """Whether it is the ready-made posterior with all covariances."""
    inner = getattr(distribution, "distribution", None)
    return is_a(distribution, tfd.TransformedDistribution) and isinstance(
        inner, tfd.MultivariateNormalTriL
    )
