"""Calibration on held-out rows: a linear fit to fall back on, and the width of the noise."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtr

# Of few rows, too few lie outside of wider intervals.
_LEVELS = (0.8, 0.9)
_PENALTIES = np.logspace(-3, 5, 33)
_TEMPERATURES = np.geomspace(0.2, 20.0, 93)
_TINY = 1e-9


class LinearFit(NamedTuple):
    """Predictions `x @ kernel + bias`."""

    kernel: np.ndarray
    bias: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x, "float64") @ self.kernel + self.bias


def fit_linear(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> LinearFit:
    """Returns a ridge regression whose penalty has the least error of rows left out one by one.

    Args:
        x: Array of shape `(n, features)`.
        y: Array of shape `(n, targets)`.
        weights: Array of shape `(n,)`, of the rows.
    """
    x, y = (np.asarray(values, "float64") for values in (x, y))
    root = np.sqrt(weights / weights.mean())[:, None]
    x_mean, y_mean = (np.average(values, axis=0, weights=weights) for values in (x, y))
    left, values, right = np.linalg.svd(root * (x - x_mean), full_matrices=False)
    y = root * (y - y_mean)
    projected = left.T @ y

    def shrunk(penalty):
        return values**2 / (values**2 + penalty)

    def error(penalty):
        leverage = np.square(left) @ shrunk(penalty) + root[:, 0] ** 2 / len(x)
        residuals = y - left @ (shrunk(penalty)[:, None] * projected)
        return np.sum(np.square(residuals / np.maximum(1.0 - leverage, 1e-3)[:, None]))

    best = min(_PENALTIES, key=error)
    kernel = right.T @ ((values / (values**2 + best))[:, None] * projected)
    return LinearFit(kernel, y_mean - x_mean @ kernel)


def share_of_network(
    linear: np.ndarray, network: np.ndarray, y: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Returns the share of the network in a mean of both, that of the least squared error.

    The share is one standard error less (Breiman's rule), so that few rows favor the linear fit.

    Args:
        linear: Array of shape `(n, targets)`, predictions of held-out rows.
        network: Array of that shape, those of the network.
        y: Array of that shape.
        weights: Array of shape `(n,)`.
    """
    step = network - linear
    shares = (weights / weights.sum())[:, None]
    square = np.maximum(np.sum(shares * step**2, axis=0), _TINY)
    best = np.sum(shares * step * (y - linear), axis=0) / square
    # One standard error less, as the linear fit is the simpler of both.
    errors = y - linear - best * step
    standard_error = np.sqrt(np.sum(np.square(shares * step * errors), axis=0)) / square
    return np.clip(best - standard_error, 0.0, 1.0)


def noise_factor(
    residuals: np.ndarray,
    loc: np.ndarray,
    scale: np.ndarray,
    weights: np.ndarray,
    chances: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the factor with which intervals hold as many held-out rows as they should.

    Args:
        residuals: Array of shape `(n, targets)`, of held-out rows.
        loc: Array of shape `(n, draws, targets)`, the means of the draws' normal distributions.
        scale: Array of that shape, their standard deviations.
        weights: Array of shape `(n,)`.
        chances: Array of shape `(n, draws)`, the probabilities of the draws. Defaults to `None`,
            equal ones.
    """
    if chances is None:
        chances = np.full(loc.shape[:2], 1.0 / loc.shape[1])
    loc = loc - mean_of_draws(loc, chances)[:, None]
    factors = []
    for level in _LEVELS:
        needed = _factors_of_rows(residuals, loc, scale, chances, level)
        # As in conformal prediction: one more row would be the most distant with chance
        # 1 / (n + 1).
        inflated = min(level * (1.0 + 1.0 / len(needed)), 1.0)
        factors.append([weighted_quantile(column, inflated, weights) for column in needed.T])
    return np.maximum(np.exp(np.mean(np.log(factors), axis=0)), _TINY)


def own_fold(values: Sequence[np.ndarray], fold_of_row: np.ndarray) -> np.ndarray:
    """Returns for each row the values that were computed without its fold.

    Args:
        values: Arrays of shape `(draws, n, ...)`, those of each fold's networks.
        fold_of_row: Array of shape `(n,)`, in ascending order.
    """
    parts = [part[:, fold_of_row == number] for number, part in enumerate(values)]
    return np.concatenate(parts, axis=1)


def factor_of_average(
    means: np.ndarray,
    variance: np.ndarray,
    share: np.ndarray,
    factor: np.ndarray,
    fold_of_row: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """Returns the factor from the width for one fold's networks to that for those of all folds.

    The mean over `K` folds errs less: of the variance `v` between folds the share `1 / K` is left.
    And the mixture of all folds' draws is wider by its spread, the other `1 - 1 / K` of `v`. Half
    the squared difference of a network without the row and one with it stands for `v`. The factor
    is the geometric mean over the rows.

    Args:
        means: Array of shape `(folds, n, targets)`, predictions of each fold's networks.
        variance: Array of shape `(n, targets)`, of the prediction without the row's fold.
        share: Array of shape `(targets,)`, the share of the network in the mean.
        factor: Array of that shape, with which intervals of one fold's networks hold the rows.
        fold_of_row: Array of shape `(n,)`.
        weights: Array of shape `(n,)`.
    """
    numbers, between = np.arange(len(means)), np.empty_like(variance)
    for number in numbers:
        of_fold = fold_of_row == number
        own, others = means[number][of_fold], means[numbers != number][:, of_fold]
        between[of_fold] = 0.5 * np.mean(np.square(others - own), axis=0)

    left = 1.0 - 1.0 / len(means)
    variance = np.maximum(variance, _TINY)
    averaged = share**2 * left * np.minimum(between / (factor**2 * variance), 1.0)
    ratios = (1.0 - averaged) / (1.0 + left * between / variance)
    return np.exp(0.5 * np.average(np.log(ratios), axis=0, weights=weights))


def leave_one_out(surprise: np.ndarray, is_unseen: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Returns the probabilities of posterior draws without each row, of shape `(n, draws)`.

    Draws given the row count by the inverse of its likelihood, at most by the square root of their
    number times the average: leave-one-out cross-validation (Gelfand, 1996) by truncated importance
    sampling (Ionides, 2008).

    Args:
        surprise: Array of shape `(n, draws)`, minus the logarithm of the likelihood of each row.
        is_unseen: Boolean array of that shape, whether the draw is without the row anyway.
        times: Array of shape `(n,)`, how often the row is in the data.
    """
    equal = np.full(is_unseen.shape, 1.0 / is_unseen.shape[1])
    count = np.sum(~is_unseen, axis=1, keepdims=True)
    if not count.all():
        return equal
    ratios = np.where(is_unseen, -np.inf, times[:, None] * surprise)
    average = logsumexp(ratios, axis=1, keepdims=True) - np.log(count)
    ratios = np.exp(np.minimum(ratios - average, 0.5 * np.log(count)))
    share = count / is_unseen.shape[1]
    return np.where(is_unseen, equal, share * ratios / ratios.sum(axis=1, keepdims=True))


def mean_of_draws(loc: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Returns the means of draws with probabilities, of shape `(n, targets)`."""
    return np.einsum("nd,ndt->nt", chances, loc)


def _factors_of_rows(residuals, loc, scale, chances, level):
    """The least factor with which the interval of each row's mixture holds its residual."""
    low, high = np.full(residuals.shape, _TINY), np.full(residuals.shape, 1.0 / _TINY)
    for _ in range(50):
        middle = np.sqrt(low * high)
        reached = ndtr(((residuals / middle)[:, None] - loc) / np.maximum(scale, _TINY))
        is_inside = np.abs(2.0 * mean_of_draws(reached, chances) - 1.0) <= level
        low, high = np.where(is_inside, low, middle), np.where(is_inside, middle, high)
    return high


def weighted_quantile(values: np.ndarray, level: float, weights: np.ndarray) -> float:
    """Returns a quantile of values that count by their weights."""
    order = np.argsort(values)
    shares = (np.cumsum(weights[order]) - 0.5 * weights[order]) / weights.sum()
    return float(np.interp(level, shares, values[order]))


def temperature(
    logits: np.ndarray, y: np.ndarray, weights: np.ndarray, chances: np.ndarray | None = None
) -> float:
    """Returns what logits are to be divided by for the likelihood of held-out rows to be highest.

    Args:
        logits: Array of shape `(draws, n, classes)`.
        y: Array of shape `(n, classes)`, one-hot.
        weights: Array of shape `(n,)`.
        chances: Array of shape `(n, draws)`, the probabilities of the draws. Defaults to `None`,
            equal ones.
    """
    shares = 1.0 / len(logits) if chances is None else chances.T

    def loss(divisor):
        likelihood = np.sum(shares * np.exp(-surprise_of_classes(logits / divisor, y)), axis=0)
        return np.average(-np.log(np.maximum(likelihood, 1e-300)), weights=weights)

    return float(min(_TEMPERATURES, key=loss))


def surprise_of_classes(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns minus the logarithm of the probability of each row's class, for each draw.

    Args:
        logits: Array of shape `(draws, n, classes)`.
        y: Array of shape `(n, classes)`, one-hot.
    """
    logits = np.asarray(logits, "float64")
    return logsumexp(logits, axis=-1) - np.sum(logits * y, axis=-1)
