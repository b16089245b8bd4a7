"""Nested intervals of predictions: wider ones for larger scores, and the score of a target.

An interval of score `s` holds a target exactly if the target's own score is at most `s`. All arrays
have shape `(n, entries)`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from keras_extras._core.cdf_around import cdf_around
from keras_extras._core.data import check_numbers
from keras_extras._core.distribution_kinds import entries_of, unwrap
from keras_extras._core.probability import tfd
from keras_extras._core.quantiles import quantile
from keras_extras._core.targets import match_targets

# Beyond so many standard deviations of a normal distribution, where tails are not known, intervals
# grow linearly.
_FARTHEST = 4.0
# Of probabilities in single precision.
_PRECISION = 1e-6


def nested_intervals(
    prediction: Any, x: Any, scale: Callable[[Any], Any] | None, score: str = "distribution"
) -> "PointIntervals | DistributionIntervals":
    """Returns the intervals around a prediction.

    Args:
        prediction: Array of shape `(n, ...)`, or a distribution of as many batch axes and entries.
        x: The inputs that it is of.
        scale: Function from inputs to the spread of errors, of residuals. Defaults to `None`.
        score: `"distribution"`, or `"residual"`, that of the mean of a distribution, too. Defaults
            to `"distribution"`.
    """
    if not hasattr(prediction, "log_prob"):
        return PointIntervals(prediction, None if scale is None else scale(x))
    prediction = unwrap(prediction)
    components = getattr(prediction, "components_distribution", prediction)
    if score == "residual" or isinstance(entries_of(components), tfd.Deterministic):
        return PointIntervals(prediction.mean(), None if scale is None else scale(x))
    if scale is not None:
        raise ValueError(
            "`scale` applies to residuals, but the predictor returns distributions, which have a "
            "scale. Set `score='residual'` to use residuals from the mean, or leave `scale` out. "
            f"Received: scale={scale!r}, score={score!r}"
        )
    return DistributionIntervals(prediction)


class PointIntervals:
    """Intervals `center - s * unit` to `center + s * unit`.

    Args:
        center: Array of shape `(n, ...)`.
        unit: Array of shape `(n,)` or of that of `center`; `None` for 1.
    """

    def __init__(self, center: Any, unit: Any = None):
        center = np.asarray(center, "float64")
        check_numbers("predictions", center)
        self._center = center.reshape(len(center), -1)
        self._unit = np.ones_like(self._center)
        if unit is not None:
            unit = np.asarray(unit, "float64")
            if unit.size not in (len(center), center.size):
                raise ValueError(
                    "`scale` must return one number for each row, or for each entry of the "
                    f"predictions, of shape {center.shape}. Received: shape {unit.shape}"
                )
            self._unit = self._unit * unit.reshape(len(center), -1)
            if not np.all((self._unit > 0.0) & np.isfinite(self._unit)):
                raise ValueError("`scale` must return positive, finite numbers.")
        # Rounding must not shut targets out that are as far as others.
        self._slack = 1e-12

    @property
    def num_entries(self) -> int:
        """How many numbers a target has."""
        return self._center.shape[1]

    def distances(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the scores at which the lower and the upper end reach `y`, negative inside."""
        step = (y - self._center) / self._unit
        return -step, step

    def ends(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ends of the intervals of a score for each entry."""
        reach = scores * self._unit
        reach = reach + self._slack * (np.abs(self._center) + np.abs(reach))
        return self._center - reach, self._center + reach


class DistributionIntervals:
    """Intervals from the quantile of `Phi(-s)` to that of `Phi(s)`.

    The score of a target is that of its place in the predicted distribution, as in distributional
    conformal prediction (Chernozhukov, Wüthrich and Zhu, 2021), on the scale of the standard normal
    distribution. A value with a probability has the score of the first interval that holds it.

    Args:
        distribution: A `tfd.Distribution` with a batch axis of rows.
    """

    def __init__(self, distribution: Any):
        self._distribution = distribution
        shape = [*distribution.batch_shape, *distribution.event_shape]
        self._shape = (shape[0], -1)
        self._low, self._high = self._quantiles(ndtr([-_FARTHEST, _FARTHEST]))
        if not np.isfinite(self._low + self._high).all():
            raise ValueError(
                "The predicted distributions must have finite quantiles. "
                f"Received: {distribution} with some that are NaN or infinite"
            )
        self._unit = (self._high - self._low) / (2.0 * _FARTHEST)
        # Where the distribution is a point.
        self._unit[self._unit <= 0.0] = 1.0

    @property
    def num_entries(self) -> int:
        """How many numbers a target has."""
        return self._low.shape[1]

    def _quantiles(self, probabilities):
        # A posterior predictive computes those of many rows in parts.
        is_mixture = hasattr(self._distribution, "num_samples")
        of = self._distribution.quantile if is_mixture else partial(quantile, self._distribution)
        values = of(np.asarray(probabilities).tolist())
        return np.asarray(values, "float64").reshape(len(probabilities), *self._shape)

    def distances(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the scores at which the lower and the upper end reach `y`, negative inside."""
        shape = [*self._distribution.batch_shape, *self._distribution.event_shape]
        targets = match_targets(np.reshape(y, shape), self._distribution, "Conformal prediction")
        around = cdf_around(self._distribution, targets)
        less, at_most = (np.asarray(p, "float64").reshape(self._shape) for p in around)
        below = np.clip(-ndtri(np.clip(at_most, 0.0, 1.0)), -_FARTHEST, _FARTHEST)
        above = np.clip(ndtri(np.clip(less, 0.0, 1.0)), -_FARTHEST, _FARTHEST)
        far_below = _FARTHEST + (self._low - y) / self._unit
        far_above = _FARTHEST + (y - self._high) / self._unit
        below = np.where(y < self._low, np.maximum(below, far_below), below)
        return below, np.where(y > self._high, np.maximum(above, far_above), above)

    def ends(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ends of the intervals of a score for each entry."""
        scores = np.broadcast_to(scores, (self.num_entries,))
        near = np.minimum(scores, _FARTHEST)
        # Rounding must not shut values out that have a probability.
        tails = np.maximum(ndtr(-near) - _PRECISION, 0.1 * ndtr(-_FARTHEST))
        each = np.unique(tails)
        values = self._quantiles(np.concatenate([each, 1.0 - each]))
        place, columns = np.searchsorted(each, tails), np.arange(self.num_entries)
        low = values[place, :, columns].T
        high = values[len(each) + place, :, columns].T
        far = np.maximum(scores - _FARTHEST, 0.0) * self._unit
        return low - far, high + far


def scores_of(intervals: PointIntervals | DistributionIntervals, y: np.ndarray) -> np.ndarray:
    """Returns the score of the least interval that holds each target."""
    below, above = intervals.distances(y)
    return np.maximum(np.maximum(below, above), 0.0)
