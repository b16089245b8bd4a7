"""Intervals of parameters from what was sampled."""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_extras.optimizers.search_space import Parameter


class Interval(NamedTuple):
    """Lower end, center and upper end, arrays of the variable's shape."""

    lower: np.ndarray
    center: np.ndarray
    upper: np.ndarray


def interval_of(parameter: Parameter, samples: np.ndarray, z: float) -> Interval:
    """The values within `z` times the root mean square distance of `samples` from the weights.

    Args:
        parameter: The parameter; distances are those of its coordinates.
        samples: Array of shape `(n, *shape)` of coordinates.
        z: Positive float.
    """
    center = np.array(ops.copy(parameter.kept))
    distance = np.sqrt(np.mean((samples - center) ** 2, axis=0))
    low, middle, high = (
        np.array(parameter.to_values(ops.convert_to_tensor(center + k * distance)))
        for k in (-z, 0.0, z)
    )
    values = np.stack([low, middle, high])
    return Interval(values.min(axis=0), middle, values.max(axis=0))
