"""Defaults of `pipelines.ProbabilisticRegressor` on small tables: coverage and R squared.

    python benchmarks/small_tables.py --data FOLDER

FOLDER holds `boston.npz` and so on, as of `uci.py`; without it the table is the diabetes data of
scikit-learn. Of tables with more rows, 600 are drawn.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_extras.pipelines import ProbabilisticRegressor

METHODS = ("ensemble", "flipout", "local_reparameterization", "mc_dropout", "laplace", "nuts")
SETS = ("boston", "concrete", "energy", "wine", "yacht")
MOST_ROWS = 600


def main(
    data: Path | None = None, methods: Sequence[str] = METHODS, splits: int = 10, **arguments
) -> dict[tuple[str, str], np.ndarray]:
    """Prints and returns coverage, R squared and R squared of ridge regression, means of splits."""
    tables = {"diabetes": load_diabetes(return_X_y=True)}
    for name in SETS if data is not None else ():
        with np.load(Path(data) / f"{name}.npz") as file:
            chosen = np.random.default_rng(0).permutation(len(file["x"]))[:MOST_ROWS]
            tables[name] = file["x"][chosen], file["y"][chosen]
    results = {}
    print("| table | method | in 90 % intervals | R squared | of ridge |\n|---|---|---|---|---|")
    for name, (x, y) in tables.items():
        for method in methods:
            rows = [_judge(x, y, method, split, arguments) for split in range(splits)]
            results[name, method] = np.mean(rows, axis=0)
            covered, score, ridge = results[name, method]
            print(f"| {name} | {method} | {covered:.1%} | {score:.3f} | {ridge:.3f} |", flush=True)
    return results


def _judge(x, y, method, split, arguments):
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.3, random_state=split)
    regressor = ProbabilisticRegressor(method, random_state=split, **arguments).fit(x, y)
    lower, upper = regressor.predict_interval(x_test)
    ridge = make_pipeline(StandardScaler(), Ridge()).fit(x, y)
    covered = np.mean((lower <= y_test) & (y_test <= upper))
    return covered, regressor.score(x_test, y_test), ridge.score(x_test, y_test)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    given = parser.parse_args()
    main(given.data, given.methods, given.splits)
