"""The Higgs pipeline with its hyperparameters searched, beside scikit-learn's classifiers.

Autoencoders compress events of the Higgs boson machine learning challenge, and a perceptron tells
signal from background by the features and the latents. Bayesian optimization searches the settings
of both stages for as long as `--minutes` says. A cross-validation in five parts then compares the
pipeline with what was found, the same pipeline with the hypermodel's defaults, a random forest,
gradient boosting and a support vector machine.

The search sees the training events of the first fold only, a quarter of them to validate on. So
the first fold's test events have no part in it, and their AUC is printed beside the mean of all
folds. In the other folds the settings, not the weights, were chosen with events that are test
events there. A selection's threshold is chosen on the test events of the other folds.

    python examples/tune_higgs.py                  # simulated events, about a quarter of an hour
    python examples/tune_higgs.py --data atlas     # downloads the CERN open-data file
    python examples/tune_higgs.py --data FILE.csv  # the challenge's or the open-data format
    python examples/tune_higgs.py --fast           # a smoke test of a few seconds
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.hyperparameters import Int
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import keras_extras
from keras_extras import tuners, visualization
from keras_extras.datasets import higgs

# The search leaves out what costs minutes a trial, and latents alone, which fall far behind.
SPACE = {
    "autoencoder_optimizer": "adam",
    "classifier_optimizer": "adamw",
    "features": "input+latent",
    "batch_size": [128, 256],
    "epochs": Int("epochs", 20, 50, step=10),
}
FAST = {"autoencoder_epochs": 1, "epochs": 1, "realizations": 1, "units": [16, 32]}
TUNED, UNTUNED = "pipeline, tuned", "pipeline, untuned"


class TimedSearch(keras_tuner.BayesianOptimization):
    """Bayesian optimization that begins no trial which could end after the time is up."""

    def __init__(self, *args: Any, minutes: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.began, self.minutes, self.longest = time.perf_counter(), minutes, 0.0

    def on_trial_begin(self, trial: Any) -> None:
        super().on_trial_begin(trial)
        self.trial_began = time.perf_counter()

    def on_trial_end(self, trial: Any) -> None:
        super().on_trial_end(trial)
        now = time.perf_counter()
        self.longest = max(self.longest, now - self.trial_began)
        done, best = len(self.oracle.trials), self.oracle.get_best_trials()[0].score
        print(f"{now - self.began:5.0f} s, trial {done}: {trial.score:.4f}, best {best:.4f}")
        if now + self.longest > self.began + 60 * self.minutes:
            self.oracle.max_trials = done


def make_hypermodel(features: np.ndarray, space: dict, seed: int) -> keras_tuner.HyperModel:
    """Pipelines behind imputation, with a column for what was missing, and standardisation."""
    imputer = keras_extras.layers.MissingValueImputer(add_indicator=True)
    imputer.adapt(features)
    standardize = keras.layers.Normalization()
    standardize.adapt(imputer(features))
    inputs = keras.Input(features.shape[1:])
    return tuners.AutoencoderClassifierHyperModel(
        num_features=2 * features.shape[1],
        preprocessor=keras.Sequential([inputs, imputer, standardize]),
        metrics=[keras.metrics.AUC(name="auc")],
        seed=seed,
        space=space,
    )


def search(
    x: np.ndarray, y: np.ndarray, space: dict, minutes: float, trials: int, out: Path, seed: int
) -> TimedSearch:
    x, x_val, y, y_val = train_test_split(x, y, test_size=0.25, stratify=y, random_state=seed)
    tuner = TimedSearch(
        make_hypermodel(x, space, seed),
        keras_tuner.Objective("val_auc", "max"),
        minutes=minutes,
        max_trials=trials,
        num_initial_points=10,
        seed=seed,
        directory=out,
        project_name="search",
        overwrite=True,
    )
    tuner.search(x, y, validation_data=(x_val, y_val), verbose=0)
    return tuner


def train(
    x: np.ndarray, y: np.ndarray, space: dict, hp: keras_tuner.HyperParameters, seed: int
) -> keras.Model:
    """Trains a pipeline with the values in `hp`, and the defaults of what is not there."""
    keras.utils.set_random_seed(seed)
    hypermodel = make_hypermodel(x, space, seed)
    pipeline = hypermodel.build(hp)
    hypermodel.fit(hp, pipeline, x, y, verbose=0)
    return pipeline


def score_by_pipeline(space: dict, hp: Any, seed: int, x: Any, y: Any, x_test: Any) -> np.ndarray:
    return train(x, y, space, hp, seed).predict(x_test, 4096, verbose=0)[:, 0]


def score_by_baseline(model: Any, x: Any, y: Any, x_test: Any) -> np.ndarray:
    model.fit(x, y)
    if hasattr(model, "decision_function"):
        return model.decision_function(x_test)
    return model.predict_proba(x_test)[:, 1]


def make_baselines(trees: int, seed: int) -> dict[str, Any]:
    """Trees take the undefined values as the number that stands for them."""
    imputer = SimpleImputer(missing_values=-999.0, strategy="median", add_indicator=True)
    return {
        "random forest": RandomForestClassifier(trees, n_jobs=2, random_state=seed),
        "gradient boosting": HistGradientBoostingClassifier(random_state=seed),
        "support vector machine": make_pipeline(imputer, StandardScaler(), SVC(cache_size=1000)),
    }


def significance(events: higgs.HiggsEvents, selected: np.ndarray, rows: np.ndarray) -> float:
    labels, metric = events.labels[rows], keras_extras.metrics.ApproximateMedianSignificance()
    weights = higgs.rescale_weights(labels, events.weights[rows])
    metric.update_state(labels, selected[rows].astype("float32"), sample_weight=weights)
    return float(metric.result())


def cross_validate(events: higgs.HiggsEvents, folds: list, train_and_score: Callable) -> dict:
    """AUC in each fold, and the significance of what is selected in all of them together.

    Thresholds that select less than 8 % are left out: too few events to measure by.
    """
    began, x, y = time.perf_counter(), events.features, events.labels
    scores, selected = np.empty(len(y)), np.zeros(len(y), dtype=bool)
    for known, rows in folds:
        scores[rows] = train_and_score(x[known], y[known], x[rows])
    seconds = time.perf_counter() - began
    for others, rows in folds:
        thresholds = np.quantile(scores[others], np.linspace(0.6, 0.92, 33))
        best = max(thresholds, key=lambda t: significance(events, scores > t, others))
        selected[rows] = scores[rows] > best
    aucs = [float(roc_auc_score(y[rows], scores[rows])) for _, rows in folds]
    return {
        "auc": float(np.mean(aucs)),
        "sd": float(np.std(aucs, ddof=1)),
        "aucs": aucs,
        "significance": significance(events, selected, np.arange(len(y))),
        "seconds": seconds / len(folds),
    }


def plot(results: dict[str, dict]) -> Any:
    """The AUC of each classifier: one dot a fold, and their mean."""
    figure = visualization.figures.make_figure(7, 3)
    ax = figure.subplots()
    for height, scores in enumerate(reversed(results.values())):
        ax.plot(scores["aucs"], [height] * len(scores["aucs"]), "o", color="0.6")
        ax.plot(scores["auc"], height, "|", markersize=20, color=visualization.figures.COLORS[0])
    ax.set_yticks(range(len(results)), list(results)[::-1])
    ax.set_xlabel("area under the ROC curve, one dot a fold")
    return figure


def main(
    data: str = "simulated",
    minutes: float = 10.0,
    out: str | Path = "outputs/tune_higgs",
    seed: int = 0,
    fast: bool = False,
) -> dict[str, Any]:
    """Runs the example and returns what it prints."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    num_events, num_folds, trials, trees = (1000, 2, 2, 20) if fast else (None, 5, 1000, 300)
    space = {**SPACE, **FAST} if fast else SPACE
    events = higgs.load_events(data, num_events, seed)
    splits = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    folds = list(splits.split(events.features, events.labels))

    print(f"Searching for at most {minutes:g} minutes, objective: validation AUC")
    first, unseen = folds[0]
    x, y = events.features[first], events.labels[first]
    tuner = search(x, y, space, minutes, trials, out, seed)
    seconds = time.perf_counter() - tuner.began
    report = tuners.SearchReport.from_tuner(tuner)
    report.save_html(out / "report.html")
    best = tuner.get_best_hyperparameters()[0]
    print("Best:", ", ".join(f"{name}={value}" for name, value in report.best.values.items()))

    pipeline = train(x, y, space, best, seed)
    pipeline.save(out / "pipeline.keras")
    loaded = keras.models.load_model(out / "pipeline.keras")
    predictions = [
        model.predict(events.features[unseen], 4096, verbose=0) for model in (pipeline, loaded)
    ]
    difference = float(np.abs(predictions[0] - predictions[1]).max())

    untuned = (FAST if fast else {}, keras_tuner.HyperParameters())
    methods = {
        TUNED: partial(score_by_pipeline, space, best, seed),
        UNTUNED: partial(score_by_pipeline, *untuned, seed),
    }
    for name, model in make_baselines(trees, seed).items():
        methods[name] = partial(score_by_baseline, model)
    results = {}
    print(f"\n{'':24}{'AUC':>8}{'sd':>8}{'1st fold':>10}{'significance':>14}{'s a fold':>10}")
    for name, train_and_score in methods.items():
        scores = results[name] = cross_validate(events, folds, train_and_score)
        print(
            f"{name:24}{scores['auc']:8.4f}{scores['sd']:8.4f}{scores['aucs'][0]:10.4f}"
            f"{scores['significance']:14.2f}{scores['seconds']:10.1f}"
        )

    result = {
        "data": data,
        "search": {"seconds": seconds, "trials": len(report.trials), **report.best._asdict()},
        "results": results,
        "difference": difference,
    }
    (out / "results.json").write_text(json.dumps(result, indent=2))
    visualization.save_figure(plot(results), out / "auc.png")
    print(f"\nThe search took {seconds:.0f} s, {len(report.trials)} trials.")
    print(f"Saved and loaded again, predictions differ by at most {difference:.1e}.")
    print(f"Written to {out}: report.html, pipeline.keras, results.json, auc.png")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="simulated", help="simulated, atlas or a CSV file")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the search")
    parser.add_argument("--out", default="outputs/tune_higgs", help="folder for the report")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="few events, two trials, two folds")
    main(**vars(parser.parse_args()))
