"""Microcanonical Langevin ensembles on three tables, beside `sklearn-contrib-bde`.

Both predict airfoil, concrete and bikesharing, which the wheel of that package holds, by its
protocol: a fifth of the rows is held out with seed 0, inputs and targets are standardized, ten
members have four hidden layers of 16 ReLU units. What is compared are the root mean squared error,
the negative log-likelihood of one normal distribution with the mean and the standard deviation
that are predicted, and the seconds of fit and prediction, compilation included, in a new process
each.

    pip install sklearn-contrib-bde pandas  # for example, in a separate environment
    python benchmarks/bayesian_ensembles.py --peer-python FOLDER/bin/python --warmup-steps 2000

Published, with 50,000 warm-up steps on 10 cores (the paper of that package): airfoil 0.1215 and
-0.913, bikesharing 0.226 and -0.732. That many take hours on two cores.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import command_line, conditions, write_json

SETS = ("airfoil", "concrete", "bikesharing")
MEMBERS, HIDDEN = 10, (16, 16, 16, 16)


def prepare(name: str, path: str) -> None:
    """Writes the standardized split of a table of the peer's wheel; it runs in its environment."""
    from importlib.util import find_spec

    spec = find_spec("bde")
    if spec is None or spec.origin is None:
        raise ImportError("there is no package `sklearn-contrib-bde`")
    folder = Path(spec.origin).parent / "data"
    if name == "bikesharing":
        file = folder / "bike_sharing_dataset" / "hour.csv"
        # Without the index, the date, and the two counts whose sum is the target.
        table = np.loadtxt(file, delimiter=",", skiprows=1, usecols=[*range(2, 14), 16])
    elif name == "airfoil":
        table = np.loadtxt(folder / "airfoil.csv", delimiter=",", skiprows=1)
    else:
        table = np.loadtxt(folder / "concrete.data")
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(table, test_size=0.2, random_state=0)
    mean, scale = train.mean(axis=0), train.std(axis=0)
    train, test = (train - mean) / scale, (test - mean) / scale
    np.savez(path, x=train[:, :-1], y=train[:, -1], x_test=test[:, :-1], y_test=test[:, -1])


def run_peer(table: dict[str, np.ndarray], seed: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the means and standard deviations of the peer, with the settings of its benchmark."""
    from bde import BdeRegressor
    from bde.loss.loss import GaussianNLL

    regressor = BdeRegressor(
        n_members=MEMBERS,
        hidden_layers=list(HIDDEN),
        loss=GaussianNLL(),
        epochs=1200,
        validation_split=0.15,
        lr=1e-3,
        weight_decay=1e-4,
        warmup_steps=steps,
        n_samples=1000,
        n_thinning=10,
        patience=20,
        seed=seed,
    )
    regressor.fit(table["x"], table["y"])
    return regressor.predict(table["x_test"], mean_and_std=True)


def run_ours(table: dict[str, np.ndarray], seed: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations by `ProbabilisticRegressor`."""
    from keras_extras.pipelines import ProbabilisticRegressor

    regressor = ProbabilisticRegressor(
        "mclmc",
        hidden_units=HIDDEN,
        num_members=MEMBERS,
        num_samples=500,
        num_burnin_steps=steps // 10,  # ten steps of the integrator in each
        random_state=seed,
    )
    regressor.fit(table["x"], table["y"])
    return regressor.predict(table["x_test"], return_std=True)


RUNS = {"keras-extras": run_ours, "sklearn-contrib-bde": run_peer}


def measure(method: str, path: str, seed: int, steps: int) -> dict[str, float]:
    """One fit and prediction, in this process."""
    with np.load(path) as file:
        table = dict(file)
    start = time.perf_counter()
    mean, stddev = map(np.asarray, RUNS[method](table, seed, steps))
    seconds = time.perf_counter() - start
    squares = np.square(table["y_test"] - mean)
    surprise = 0.5 * np.log(2.0 * np.pi * stddev**2) + 0.5 * squares / stddev**2
    rmse = float(np.sqrt(squares.mean()))
    return {"rmse": rmse, "nll": float(surprise.mean()), "seconds": seconds}


def _in_process(python: str, *arguments: Any) -> Any:
    """Runs a part of this script by an interpreter and returns the last line that it prints."""
    command = [python, __file__, "--part", json.dumps(arguments)]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(process.stderr.strip().rpartition("\n")[2])
    return json.loads(process.stdout.strip().rpartition("\n")[2])


def _part(name: str, *arguments: Any) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    print(json.dumps({"prepare": prepare, "measure": measure}[name](*arguments)))


def main(
    peer_python: str = sys.executable,
    sets: str = ",".join(SETS),
    seeds: int = 3,
    warmup_steps: int = 50_000,
    steps: int = 2000,
    out: str | os.PathLike | None = None,
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Prints a table, and writes `bayesian_ensembles.json` to `out`.

    Args:
        peer_python: Interpreter that has `sklearn-contrib-bde`.
        sets: Names of tables, with commas.
        seeds: Integer, how many runs of each.
        warmup_steps: Integer, warm-up steps of the peer.
        steps: Integer, warm-up steps of ours.
        out: Folder for the JSON file; none is written without.

    Returns:
        Dict from tables and methods to the measurements of each seed; empty without the peer.
    """
    budgets = {"keras-extras": steps, "sklearn-contrib-bde": warmup_steps}
    pythons = {"keras-extras": sys.executable, "sklearn-contrib-bde": peer_python}
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    machine, versions = conditions()
    print(f"{machine}, {versions}; {warmup_steps} warm-up steps of the peer, {steps} of ours")
    print(f"{'table':12} {'method':20} {'RMSE':>7} {'NLL':>8} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name in sets.split(","):
            path = str(Path(folder) / f"{name}.npz")
            try:
                _in_process(peer_python, "prepare", name, path)
            except RuntimeError as error:
                print(f"Nothing is run, as the tables are those of sklearn-contrib-bde: {error}")
                return {}
            results[name] = {}
            for method, budget in budgets.items():
                runs = [
                    _in_process(pythons[method], "measure", method, path, seed, budget)
                    for seed in range(seeds)
                ]
                results[name][method] = runs
                rmse, nll, seconds = (
                    np.mean([run[key] for run in runs]) for key in ("rmse", "nll", "seconds")
                )
                print(f"{name:12} {method:20} {rmse:7.4f} {nll:8.3f} {seconds:8.1f}", flush=True)
    document = {"machine": machine, "versions": versions, "budgets": budgets, "results": results}
    write_json(out, "bayesian_ensembles.json", document)
    return results


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--peer-python", default=sys.executable, help="with sklearn-contrib-bde")
    parser.add_argument("--sets", default=",".join(SETS), help="which tables, with commas")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each")
    parser.add_argument("--warmup-steps", type=int, default=50_000, help="of the peer")
    parser.add_argument("--steps", type=int, default=2000, help="warm-up steps of ours")
    parser.add_argument("--out", default=None, help="folder for a JSON file")
    parser.add_argument("--part", default=None, help="used by the script itself")
    given = vars(parser.parse_args())
    part = given.pop("part")
    if part is None:
        main(**given)
    else:
        _part(*json.loads(part))
