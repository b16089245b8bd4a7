"""Checks of what figures of predictions are computed from: one entry for each row."""

from typing import Any

import numpy as np

from keras_extras._core.data import check_numbers
from keras_extras._core.distribution_kinds import unwrap
from keras_extras._core.targets import require_distribution


def rows_of(distribution: Any, owner: str) -> tuple[Any, int]:
    """Returns the plain distribution and its number of rows, each of one entry."""
    distribution = require_distribution(distribution, owner)
    distribution = unwrap(distribution)
    batch, event = tuple(distribution.batch_shape), tuple(distribution.event_shape)
    shape = batch + event
    if not batch or shape not in (batch[:1], (*batch[:1], 1)):
        raise ValueError(
            f"{owner} needs a distribution with one entry for each row, of batch shape (n,) or "
            "(n, 1) and event shape (), or of batch shape (n,) and event shape (1,). "
            f"Received: batch_shape={batch}, event_shape={event}"
        )
    return distribution, batch[0]


def column(name: str, values: Any) -> np.ndarray:
    """Returns finite numbers of shape `(n,)` from values of shape `(n,)` or `(n, 1)`."""
    values = np.asarray(values, dtype="float64")
    if values.shape not in ((values.size,), (values.size, 1)) or not values.size:
        raise ValueError(
            f"`{name}` must have shape (n,) or (n, 1) with n of at least 1. "
            f"Received: {name}.shape={values.shape}"
        )
    check_numbers(name, values)
    return values.reshape(-1)


def flat(values: Any) -> np.ndarray:
    """Returns a tensor or array as a NumPy array of shape `(n,)`."""
    return np.asarray(values, dtype="float64").reshape(-1)
