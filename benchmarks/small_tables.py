"""Defaults of `pipelines.ProbabilisticRegressor` on small tables: coverage, R squared and seconds.

    python benchmarks/small_tables.py --data FOLDER

FOLDER holds `boston.npz` and so on, as of `uci.py`; without it the table is the diabetes data of
scikit-learn. Of tables with more rows, 600 are drawn.
"""

import argparse
import os
import time
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
    data: Path | None = None,
    methods: Sequence[str] = METHODS,
    splits: int = 10,
    names: Sequence[str] = ("diabetes", *SETS),
    **arguments,
) -> dict[tuple[str, str], np.ndarray]:
    """Prints and returns means of splits: coverage, R squared, that of ridge, seconds of a fit."""
    tables = {"diabetes": load_diabetes(return_X_y=True)}
    for name in SETS if data is not None else ():
        with np.load(Path(data) / f"{name}.npz") as file:
            chosen = np.random.default_rng(0).permutation(len(file["x"]))[:MOST_ROWS]
            tables[name] = file["x"][chosen], file["y"][chosen]
    results = {}
    print("| table | method | in 90 % intervals | R squared | of ridge | seconds |")
    print("|---|---|---|---|---|---|")
    for name in filter(tables.__contains__, names):
        x, y = tables[name]
        for method in methods:
            rows = [_judge(x, y, method, split, arguments) for split in range(splits)]
            results[name, method] = np.mean(rows, axis=0)
            covered, score, ridge, seconds = results[name, method]
            numbers = f"{covered:.1%} | {score:.3f} | {ridge:.3f} | {seconds:.1f}"
            print(f"| {name} | {method} | {numbers} |", flush=True)
    return results


def _judge(x, y, method, split, arguments):
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.3, random_state=split)
    start = time.perf_counter()
    regressor = ProbabilisticRegressor(method, random_state=split, **arguments).fit(x, y)
    seconds = time.perf_counter() - start
    lower, upper = regressor.predict_interval(x_test)
    ridge = make_pipeline(StandardScaler(), Ridge()).fit(x, y)
    covered = np.mean((lower <= y_test) & (y_test <= upper))
    return covered, regressor.score(x_test, y_test), ridge.score(x_test, y_test), seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--tables", nargs="+", default=("diabetes", *SETS))
    given = parser.parse_args()
    main(given.data, given.methods, given.splits, given.tables)
