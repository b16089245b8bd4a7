"""Coverage and width of conformal intervals, beside MAPIE's, and temperature scaling.

    python benchmarks/conformal.py

For every method of `ProbabilisticRegressor`: it is fitted to 45 % of the rows, `--fits` times, and
the rest is split into held-out and test rows again and again, 200 times in all. Widths are those at
the mean of the scores that the splits find. MAPIE's are its `SplitConformalRegressor`, absolute
residuals, on the means of the same estimator and the same splits; without MAPIE they are left out.

`CrossConformalPredictor` refits: it and MAPIE's `CrossConformalRegressor` run on few splits.
"""

import os
import time
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import command_line
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.datasets import load_diabetes, load_digits

from keras_extras.inference import temperature_scale
from keras_extras.inference.conformal_predictor import rank
from keras_extras.inference.nested_intervals import nested_intervals, scores_of
from keras_extras.metrics import BrierScore, ExpectedCalibrationError
from keras_extras.pipelines import CrossConformalPredictor, ProbabilisticRegressor

METHODS = ("ensemble", "flipout", "local_reparameterization", "mc_dropout", "laplace", "nuts")
LEVEL = 0.9


class Predicted(RegressorMixin, BaseEstimator):
    """Looks up what was predicted for the rows whose numbers it is given."""

    def __init__(self, values: np.ndarray):
        self.values = values
        self.is_fitted = True  # what MAPIE looks for

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Predicted":
        """Does nothing."""
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Returns the values of rows."""
        return self.values[X[:, 0].astype(int)]


def tables() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The diabetes data, and simulated data whose noise depends on the input."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, size=(600, 3))
    y = np.sin(3.0 * x[:, 0]) + (0.1 + 0.6 * (x[:, 1] + 1.0)) * rng.normal(size=600)
    return {"diabetes": load_diabetes(return_X_y=True), "simulated": (x, y)}


def split_conformal(
    x: np.ndarray, y: np.ndarray, method: str, fits: int, splits: int, arguments: dict
) -> np.ndarray:
    """Coverage of the estimator itself, ours and MAPIE's, and the widths of these three."""
    found = []
    for fit in range(fits):
        rng = np.random.default_rng(fit)
        order = rng.permutation(len(x))
        train, rest = np.split(order, [int(0.45 * len(x))])
        regressor = ProbabilisticRegressor(method, random_state=fit, **arguments)
        regressor.fit(x[train], y[train])
        prediction = regressor.predict_distribution(x[rest])
        intervals = nested_intervals(prediction, x[rest], None)
        scores = scores_of(intervals, y[rest][:, None])[:, 0]
        lower, upper = regressor.predict_interval(x[rest], LEVEL)
        own = np.mean((lower <= y[rest]) & (y[rest] <= upper)), np.mean(upper - lower)
        means = Predicted(regressor.predict(x[rest]))
        thresholds, covered, theirs = [], [], []
        for _ in range(splits // fits):
            held_out, test = np.split(rng.permutation(len(rest)), [int(0.6 * len(rest))])
            threshold = np.sort(scores[held_out])[rank(LEVEL, len(held_out)) - 1]
            thresholds.append(threshold)
            covered.append(np.mean(scores[test] <= threshold))
            theirs.append(_split_of_mapie(means, held_out, test, y[rest]))
        low, high = intervals.ends(np.array([np.mean(thresholds)]))
        of_mapie = np.mean(theirs, axis=0)
        ours = np.mean(covered), np.mean(high - low)
        found.append([own[0], ours[0], of_mapie[0], own[1], ours[1], of_mapie[1]])
    return np.mean(found, axis=0)


def _split_of_mapie(means, held_out, test, y):
    """Coverage and width of MAPIE's intervals."""
    try:
        from mapie.regression import SplitConformalRegressor
    except ImportError:
        return np.nan, np.nan
    conformal = SplitConformalRegressor(means, confidence_level=LEVEL, prefit=True)
    conformal.conformalize(held_out[:, None], y[held_out])
    _, ends = conformal.predict_interval(test[:, None])
    return _judged(ends[:, 0, 0], ends[:, 1, 0], y[test])


def cross_conformal(
    x: np.ndarray, y: np.ndarray, method: str, splits: int, arguments: dict
) -> np.ndarray:
    """Coverage of ours and MAPIE's, and the widths of both."""
    found = []
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(x))
        train, test = np.split(order, [int(0.6 * len(x))])
        regressor = ProbabilisticRegressor(method, random_state=split, **arguments)
        conformal = CrossConformalPredictor(regressor, x[train], y[train], seed=split)
        ours = _judged(*conformal.interval(x[test], LEVEL), y[test])
        theirs = (np.nan, np.nan)
        try:
            from mapie.regression import CrossConformalRegressor
        except ImportError:
            pass
        else:
            conformal = CrossConformalRegressor(regressor, confidence_level=LEVEL, cv=5)
            conformal.fit_conformalize(x[train], y[train])
            _, ends = conformal.predict_interval(x[test])
            theirs = _judged(ends[:, 0, 0], ends[:, 1, 0], y[test])
        found.append([ours[0], theirs[0], ours[1], theirs[1]])
    return np.mean(found, axis=0)


def _judged(lower, upper, y):
    return np.mean((lower <= y) & (y <= upper)), np.mean(upper - lower)


def temperature(epochs: int) -> dict[str, dict[str, float]]:
    """Prints scores of a network of noisy digits, trained for long, before and after."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0 + np.random.default_rng(0).normal(scale=0.3, size=x.shape)).astype("float32")
    train, held_out, test = np.split(np.random.default_rng(1).permutation(len(x)), [500, 1000])
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(128, "relu"), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.Input((64,)), *layers])
    model.compile(keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
    model.fit(x[train], y[train], epochs=epochs, batch_size=50, verbose=0)
    calibrated = temperature_scale(model, x[held_out], y[held_out])
    print(f"\ntemperature {calibrated.layers[-1].temperature:.2f}, digits after {epochs} epochs")
    print("| network | calibration error | Brier score | accuracy |\n|---|---|---|---|")
    results = {}
    for name, one in (("trained", model), ("calibrated", calibrated)):
        p = one.predict(x[test], verbose=0)
        metrics = [ExpectedCalibrationError(), BrierScore()]
        for metric in metrics:
            metric.update_state(y[test], p)
        error, brier = (float(metric.result()) for metric in metrics)
        accuracy = float(np.mean(np.argmax(p, axis=1) == y[test]))
        results[name] = {"error": error, "brier": brier, "accuracy": accuracy}
        print(f"| {name} | {error:.3f} | {brier:.3f} | {accuracy:.1%} |", flush=True)
    return results


def main(
    methods: Sequence[str] = METHODS,
    splits: int = 200,
    fits: int = 4,
    cross: int = 3,
    epochs: int = 100,
    **arguments,
) -> dict[tuple[str, str], np.ndarray]:
    """Prints the tables; returns for table and method what `split_conformal` found."""
    arguments = {"epochs": epochs, **arguments}
    results = {}
    temperature(epochs)
    print(f"\n{splits} splits, {fits} fits each; coverage of {LEVEL:.0%} intervals / width")
    print("| table | method | estimator | conformal | MAPIE | seconds |\n|---|---|---|---|---|---|")
    for name, (x, y) in tables().items():
        for method in methods:
            start = time.perf_counter()
            results[name, method] = split_conformal(x, y, method, fits, splits, arguments)
            seconds = time.perf_counter() - start
            _print_row(name, method, results[name, method], seconds)
    if cross:
        print(f"\nrefitting, {cross} splits\n| table | method | CV+ | MAPIE's CV+ | seconds |")
        print("|---|---|---|---|---|")
        for name, (x, y) in tables().items():
            start = time.perf_counter()
            found = cross_conformal(x, y, methods[0], cross, arguments)
            _print_row(name, methods[0], found, time.perf_counter() - start)
    return results


def _print_row(name, method, found, seconds):
    pairs = zip(*np.split(found, 2), strict=True)
    cells = " | ".join(f"{covered:.1%} / {width:.4g}" for covered, width in pairs)
    print(f"| {name} | {method} | {cells} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--splits", type=int, default=200, help="of held-out and test rows")
    parser.add_argument("--fits", type=int, default=4, help="of each estimator")
    parser.add_argument("--cross", type=int, default=3, help="splits of CV+; 0 for none")
    parser.add_argument("--epochs", type=int, default=100, help="of each fit")
    main(**vars(parser.parse_args()))
