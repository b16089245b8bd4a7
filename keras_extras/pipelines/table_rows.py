"""The rows of a table: the scales of their columns, and each row once."""

import numpy as np


def mean_and_scale(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation of each column, the latter 1 for constant columns."""
    mean = np.average(values, axis=0, weights=weights)
    scale = np.sqrt(np.average(np.square(values - mean), axis=0, weights=weights))
    is_constant = scale <= 1e-12 * np.abs(values).max(axis=0, initial=1.0)
    return mean, np.where(is_constant, 1.0, scale)


def combine_rows(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns each row once, in a fixed order, with the sum of its weights.

    So a weight of 2 is the same as a row given twice, a weight of 0 as one left out, and the order
    of the rows does not matter.
    """
    if not weights.sum() > 0:
        raise ValueError("`sample_weight` must have a positive sum. Received: only zeros")
    counted = weights > 0
    joined = np.concatenate([x, y.reshape(len(y), -1)], axis=1)[counted]
    _, first, inverse = np.unique(joined, axis=0, return_index=True, return_inverse=True)
    weights = np.bincount(inverse.reshape(-1), weights[counted])
    return x[counted][first], y[counted][first], weights
