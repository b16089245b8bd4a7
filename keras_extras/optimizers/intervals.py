"""Intervals of parameters from the curvature of the loss."""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_extras._core.paths import unique_paths
from keras_extras.optimizers.curvature import Curvature
from keras_extras.optimizers.parameter import Parameter

LIKELIHOODS = (None, "mean_squared_error", "negative_log_likelihood")


class Interval(NamedTuple):
    """Lower end, center and upper end, arrays of the variable's shape."""

    lower: np.ndarray
    center: np.ndarray
    upper: np.ndarray


def intervals_of(
    curvature: Curvature, level: float, likelihood: str | None, rows: float
) -> dict[str, Interval]:
    """Intervals in the coordinates of each parameter, their ends transformed.

    Args:
        curvature: What was measured.
        level: Float between 0 and 1.
        likelihood: One of `LIKELIHOODS`.
        rows: The number of rows of the training set.
    """
    from scipy import stats

    quantile, variance = NormalDist().inv_cdf((1 + level) / 2), 1 / rows
    if likelihood != "negative_log_likelihood":
        freedom = rows - sum(curvature.sizes)
        if freedom <= 0:
            raise ValueError(
                "Intervals for a mean squared error need more rows than weights. Received: "
                f"training_set_size={rows:g}, {sum(curvature.sizes)} weights"
            )
        quantile, variance = stats.t.ppf((1 + level) / 2, freedom), 2 * curvature.loss / freedom
    paths = unique_paths([p.variable for p in curvature.parameters])
    return {
        path: _interval(p, quantile * np.sqrt(variance * inverse))
        for path, p, inverse in zip(paths, curvature.parameters, curvature.inverse_diagonal())
    }


def _interval(parameter: Parameter, distance: np.ndarray) -> Interval:
    coordinates = np.array(ops.copy(parameter.kept))
    is_held = np.isfinite(distance)
    distance = ops.convert_to_tensor(np.where(is_held, distance, 0.0).astype(coordinates.dtype))
    center = np.array(parameter.to_values(ops.convert_to_tensor(coordinates)))
    lower, upper = map(np.array, parameter.ends(ops.convert_to_tensor(coordinates), distance))
    return Interval(np.where(is_held, lower, -np.inf), center, np.where(is_held, upper, np.inf))
