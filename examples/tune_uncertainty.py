"""A search for the network that knows best how sure it is.

The objective is the negative log-likelihood of validation rows, which rewards predictions that are
close and honest about their errors. Bayesian optimization chooses between three kinds of Bayesian
layers, Monte Carlo dropout and a plain network, the distribution at the end, widths and rates.
What it found is trained once more on all training rows and compared on test rows, the average over
100 draws of its weights, with the hypermodel's defaults and with linear regression.

    python examples/tune_uncertainty.py                  # scikit-learn's diabetes data, minutes
    python examples/tune_uncertainty.py --data FILE.npz  # arrays `x` and `y` of your own
    python examples/tune_uncertainty.py --fast           # a smoke test of a few seconds
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_tuner
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

import keras_extras
from keras_extras import tfp, tuners, visualization

SPACE = {"hidden_layers": [1, 2], "batch_size": [16, 32, 64]}
FAST = {"epochs": 2, "units": [8, 16], "batch_size": 64}
# What it is compared with: the usual network, without uncertain weights.
UNTUNED = {"weights": "deterministic"}


def load_data(path: str | Path | None, seed: int) -> list[np.ndarray]:
    """x and y to train on and to test with, both standardized by the first."""
    if path is None:
        x, y = load_diabetes(return_X_y=True)
    else:
        with np.load(path) as arrays:
            x, y = arrays["x"], arrays["y"]
    x, x_test, y, y_test = train_test_split(x, y.reshape(-1, 1), test_size=0.25, random_state=seed)
    scaled = [
        (values - known.mean(0)) / known.std(0)
        for values, known in ((x, x), (y, y), (x_test, x), (y_test, y))
    ]
    return [values.astype("float32") for values in scaled]


def search(x: np.ndarray, y: np.ndarray, space: dict, seed: int, **limits: Any) -> Any:
    """Searches on three quarters of the rows, and validates on the others."""
    x, x_val, y, y_val = train_test_split(x, y, test_size=0.25, random_state=seed)
    tuner = keras_tuner.BayesianOptimization(
        tuners.BayesianHyperModel(x.shape[1], training_set_size=len(x), space=space),
        keras_tuner.Objective("val_nll", "min"),
        num_initial_points=10,
        alpha=0.1,  # the share of chance in the variance of the trials' likelihoods
        seed=seed + 1,  # keras-tuner takes 0 for none
        project_name="search",
        overwrite=True,
        **limits,
    )
    patience = keras.callbacks.EarlyStopping("val_nll", patience=30)
    tuner.search(x, y, validation_data=(x_val, y_val), callbacks=[patience], verbose=0)
    return tuner


def train(x: np.ndarray, y: np.ndarray, space: dict, hp: Any, seed: int) -> keras.Model:
    """Trains on all rows, for the epochs of `hp`."""
    keras.utils.set_random_seed(seed)
    hypermodel = tuners.BayesianHyperModel(x.shape[1], training_set_size=len(x), space=space)
    model = hypermodel.build(hp)
    hypermodel.fit(hp, model, x, y, verbose=0)
    return model


def best_settings(tuner: Any) -> Any:
    """The best trial's hyperparameters, with the epoch at which its validation was best."""
    best = tuner.oracle.get_best_trials()[0]
    hp = best.hyperparameters.copy()
    if "epochs" in hp.values:
        hp.values["epochs"] = best.best_step + 1
    return hp


def scores(prediction: Any, y: np.ndarray) -> dict[str, float]:
    """Negative log-likelihood, root mean squared error, and coverage of 90 % intervals."""
    low, high = (np.asarray(prediction.quantile(level)) for level in (0.05, 0.95))
    return {
        "nll": -float(np.mean(prediction.log_prob(y))),
        "rmse": float(np.sqrt(np.mean((np.asarray(prediction.mean()) - y) ** 2))),
        "coverage": float(np.mean((low <= y) & (y <= high))),
    }


def linear(x: np.ndarray, y: np.ndarray, x_test: np.ndarray) -> Any:
    """Least squares, with normal errors of the spread that they have in training."""
    model = LinearRegression().fit(x, y)
    spread = np.sqrt(np.sum((model.predict(x) - y) ** 2) / (len(x) - x.shape[1] - 1))
    return tfp.distributions.Normal(model.predict(x_test), spread.astype("float32"))


def main(
    data: str | Path | None = None,
    trials: int = 40,
    out: str | Path = "outputs/tune_uncertainty",
    seed: int = 0,
    fast: bool = False,
) -> dict[str, dict[str, float]]:
    """Runs the example and returns the scores of each model."""
    out = Path(out)
    keras.utils.set_random_seed(seed)
    x, y, x_test, y_test = load_data(data, seed)
    space = {**SPACE, **FAST} if fast else SPACE
    tuner = search(x, y, space, seed, max_trials=3 if fast else trials, directory=out)
    report = tuners.SearchReport.from_tuner(tuner)
    report.save_html(out / "report.html")
    visualization.save_figure(report.plot_parallel_coordinates(), out / "trials.png")
    print(f"Best of {len(report.trials)}:", *(f"{k}={v}" for k, v in report.best.values.items()))

    tuned = train(x, y, space, best_settings(tuner), seed)
    untuned = train(x, y, {**space, **UNTUNED}, keras_tuner.HyperParameters(), seed)
    tuned.save(out / "model.keras")
    predictions = {
        "tuned": keras_extras.predict_distribution(tuned, x_test, num_samples=100, seed=seed),
        "untuned": keras_extras.predict_distribution(untuned, x_test, num_samples=100, seed=seed),
        "linear regression": linear(x, y, x_test),
    }
    results = {}
    print(f"\n{len(y_test)} test rows{'':9}{'NLL':>8}{'RMSE':>8}{'in 90 %':>9}")
    for name, prediction in predictions.items():
        results[name] = found = scores(prediction, y_test)
        print(f"{name:22}{found['nll']:8.3f}{found['rmse']:8.3f}{found['coverage']:9.1%}")
    curve = visualization.QuantileCalibration.from_distribution(y_test, predictions["tuned"])
    visualization.save_figure(curve.plot(), out / "calibration.png")
    print(f"Written to {out}: report.html, trials.png, calibration.png, model.keras")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=None, help="a file with the arrays x and y")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--out", default="outputs/tune_uncertainty", help="folder for the report")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="three trials of two epochs")
    main(**vars(parser.parse_args()))
