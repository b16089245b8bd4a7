"""How often intervals of 90 % cover the weights that data were drawn with.

For each kind, 200 data sets of 200 rows and 5 features are drawn, and on each `fit` trains one
Dense layer of 6 weights by sampling:

- `linear`: mean squared error and normal noise. The intervals stand beside those of least squares.
- `logistic`: cross-entropy. The intervals stand beside those of Wald, by scikit-learn.

Over 1,200 intervals the standard error of a coverage of 90 % is at least 0.9 %.

    python benchmarks/interval_coverage.py
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from common import command_line
from scipy import stats
from sklearn.linear_model import LogisticRegression

from keras_extras.optimizers import MonteCarloOptimizer

ROWS, FEATURES, LEVEL = 200, 5, 0.9
LOSSES = {
    "linear": ("mse", "mean_squared_error"),
    "logistic": (keras.losses.BinaryCrossentropy(from_logits=True), "negative_log_likelihood"),
}


def draw(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, targets and the weights behind them, the bias as the last."""
    weights = rng.normal(size=FEATURES + 1)
    x = rng.normal(size=(ROWS, FEATURES))
    scores = x @ weights[:-1] + weights[-1]
    if kind == "linear":
        return x, scores + rng.normal(size=ROWS), weights
    return x, (rng.uniform(size=ROWS) < 1 / (1 + np.exp(-scores))).astype(float), weights


def classical(kind: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centers and half widths of the textbook's intervals."""
    design = np.c_[x, np.ones(ROWS)]
    if kind == "linear":
        weights, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
        freedom = ROWS - FEATURES - 1
        variance = squares / freedom * np.diag(np.linalg.inv(design.T @ design))
        return weights, stats.t(freedom).ppf((1 + LEVEL) / 2) * np.sqrt(variance)
    exact = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(x, y)
    weights = np.append(exact.coef_, exact.intercept_)
    chance = 1 / (1 + np.exp(-design @ weights))
    information = design.T @ (design * (chance * (1 - chance))[:, None])
    return weights, stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(np.diag(np.linalg.inv(information)))


class Sampler:
    """A model and its optimizer, which start anew for each data set without being compiled anew."""

    def __init__(self, kind: str, steps: int):
        loss, self.likelihood = LOSSES[kind]
        self.steps = steps
        self.model = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(1)])
        optimizer = MonteCarloOptimizer(
            0.05, population_size=16, generations_per_batch=10, sigma=0.05, seed=0
        )
        self.model.compile(optimizer, loss)
        optimizer.build(self.model.trainable_variables)
        self.variables = [*self.model.variables, *optimizer.variables]
        self.start = [v.numpy() for v in self.variables]

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        for variable, value in zip(self.variables, self.start):
            variable.assign(value)
        rows = tf.data.Dataset.from_tensors((x.astype("float32"), y[:, None].astype("float32")))
        self.model.fit(rows.repeat(self.steps), shuffle=False, verbose=0)
        intervals = self.model.optimizer.confidence_intervals(LEVEL, self.likelihood, ROWS)
        lower, _, upper = (np.append(*ends) for ends in zip(*intervals.values()))
        return (lower + upper) / 2, (upper - lower) / 2


def main(data_sets: int = 200, steps: int = 160, seed: int = 0) -> dict[str, float]:
    """Prints the table; returns the coverage for each kind."""
    print(f"{data_sets} data sets, {steps} steps of 10 updates each, level {LEVEL:.0%}\n")
    print(f"{'kind':10} {'coverage':>9} {'classical':>10} {'width / classical':>18} {'seconds':>8}")
    coverages = {}
    for kind in LOSSES:
        rng = np.random.default_rng(seed)
        sampler, start = Sampler(kind, steps), time.perf_counter()
        covered, covered_classically, ratios = [], [], []
        for _ in range(data_sets):
            x, y, weights = draw(kind, rng)
            center, half = sampler(x, y)
            expected_center, expected_half = classical(kind, x, y)
            covered.append(np.abs(weights - center) < half)
            covered_classically.append(np.abs(weights - expected_center) < expected_half)
            ratios.append(half / expected_half)
        coverages[kind] = float(np.mean(covered))
        print(
            f"{kind:10} {coverages[kind]:9.1%} {np.mean(covered_classically):10.1%} "
            f"{np.min(ratios):8.3f} to {np.max(ratios):.3f} {time.perf_counter() - start:8.0f}",
            flush=True,
        )
    return coverages


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--data-sets", type=int, default=200, help="how many of each kind")
    parser.add_argument("--steps", type=int, default=160, help="of ten updates each")
    parser.add_argument("--seed", type=int, default=0, help="of the data sets")
    main(**vars(parser.parse_args()))
