"""Linear regressions with a closed posterior, and how far draws of their weights are from it."""

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

ROWS, NOISE, CORRELATION = 24, 1.0, 0.5
RANKED, BINS = 99, 20
EXACT, MEAN_FIELD = "exact", "mean field"
# At these places the outputs are the kernel's rows plus the bias, and the bias.
PLACES = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], "float32")


class Problem(NamedTuple):
    """Simulations with the same inputs, a column of targets and of weights each.

    Attributes:
        x: Array of shape `(rows, 2)`.
        y: Array of shape `(rows, simulations)`.
        weights: Array of shape `(3, simulations)`, the weights that made the targets.
        mean: Array of shape `(3, simulations)`, of the posterior.
        covariance: Array of shape `(3, 3)`, of the posterior of each simulation.
    """

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray

    def part(self, first: int, last: int) -> "Problem":
        """Returns some of the simulations."""
        chosen = slice(first, last)
        columns = (self.y[:, chosen], self.weights[:, chosen], self.mean[:, chosen])
        return Problem(self.x, *columns, self.covariance)

    def stddevs(self, reference: str) -> np.ndarray:
        """Standard deviations of the weights, of shape `(3, 1)`."""
        if reference == EXACT:
            variances = np.diag(self.covariance)
        else:
            variances = 1.0 / np.diag(np.linalg.inv(self.covariance))
        return np.sqrt(variances)[:, None]


def simulate(simulations: int, seed: int) -> Problem:
    """Draws weights from the prior and targets from the model; inputs are always the same."""
    x = (
        np.random.default_rng(0)
        .multivariate_normal(np.zeros(2), [[1.0, CORRELATION], [CORRELATION, 1.0]], size=ROWS)
        .astype("float32")
    )
    design = np.column_stack([x, np.ones(ROWS)])
    generator = np.random.default_rng([seed, 1])
    weights = generator.normal(size=(3, simulations))
    y = design @ weights + NOISE * generator.normal(size=(ROWS, simulations))
    covariance = np.linalg.inv(design.T @ design / NOISE**2 + np.eye(3))
    mean = covariance @ design.T @ y / NOISE**2
    return Problem(x, y.astype("float32"), weights, mean, covariance)


def draws_of(prediction: Any) -> np.ndarray:
    """The weights of each draw, of shape `(draws, 3, simulations)`."""
    first, second, bias = np.asarray(prediction.components_distribution.mean(), "float64")
    return np.stack([first - bias, second - bias, bias], axis=1)


def judge(p: Problem, draws: np.ndarray, reference: str, seed: int = 0) -> dict[str, Any]:
    """Compares draws of weights, of shape `(draws, 3, simulations)`, with a reference."""
    stddevs = p.stddevs(reference)
    target = p.weights
    if reference == MEAN_FIELD:
        noise = np.random.default_rng([seed, 2]).normal(size=p.mean.shape)
        target = p.mean + stddevs * noise
    kept = draws[np.linspace(0, len(draws) - 1, RANKED).round().astype(int)]
    bins = np.sum(kept < target, axis=0) * BINS // (RANKED + 1)
    counts = [np.bincount(row, minlength=BINS) for row in bins]
    p_value = min(1.0, len(counts) * min(stats.chisquare(row).pvalue for row in counts))
    error = float(np.sqrt(np.mean(((draws.mean(0) - p.mean) / stddevs) ** 2)))
    ratios = np.mean(draws.std(0, ddof=1) / stddevs, axis=1)
    ratio = float(ratios[np.argmax(np.abs(ratios - 1.0))])
    faults = []
    if p_value < 0.01:
        faults.append("ranks")
    if error > 0.1:
        faults.append(f"mean by {error:.2f} sd")
    if abs(ratio - 1.0) > 0.1:
        faults.append(f"sd {abs(ratio - 1.0):.0%} too {'wide' if ratio > 1.0 else 'narrow'}")
    return {"p": float(p_value), "mean": error, "sd": ratio, "off by": ", ".join(faults)}
