"""A classifier of Higgs events, tuned for the significance of what it selects.

A search for new particles is judged by the significance of the events that it selects. That has no
gradient, so classifiers are trained for the cross-entropy instead. Here a linear
classifier is trained so, with the weights of the events, by Adam until the validation loss stops
falling. It is then tuned for the significance itself, by MonteCarloOptimizer in stock `fit` on
full batches. Each seed is a cross-validation in three parts: every event is judged by classifiers
that were trained, stopped and given a threshold without it.

    python examples/maximize_significance.py                  # simulated events, about ten minutes
    python examples/maximize_significance.py --data atlas     # downloads the CERN open-data file
    python examples/maximize_significance.py --data FILE.csv  # the challenge's or the open format
    python examples/maximize_significance.py --fast           # a smoke test of a few seconds
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

import keras_extras
from keras_extras import visualization
from keras_extras.datasets import higgs

TRAINED, TUNED = "cross-entropy", "then tuned"
FOLDS = 3


def take(events: higgs.HiggsEvents, rows: np.ndarray) -> higgs.HiggsEvents:
    """Some of the events, their weights rescaled to the expected numbers of all events."""
    labels = events.labels[rows]
    weights = higgs.rescale_weights(labels, events.weights[rows])
    features, ids = events.features[rows], events.event_ids[rows]
    return events._replace(features=features, labels=labels, weights=weights, event_ids=ids)


def make_classifier(features: np.ndarray, hidden: int) -> keras.Model:
    """Imputation, standardization, and a linear classifier or a perceptron, with logits."""
    imputer, standardize = keras_extras.layers.MissingValueImputer(), keras.layers.Normalization()
    imputer.adapt(features)
    standardize.adapt(imputer(features))
    units = [keras.layers.Dense(hidden, activation="tanh")] if hidden else []
    width = features.shape[1]
    return keras.Sequential(
        [keras.Input((width,)), imputer, standardize, *units, keras.layers.Dense(1)]
    )


def train_by_cross_entropy(
    model: keras.Model, train: higgs.HiggsEvents, validation: higgs.HiggsEvents, epochs: int
) -> None:
    """Trains until the validation loss stops falling; the weights of each class sum to the same."""

    def data(events):
        half = len(events.labels) / 2
        weights = higgs.rescale_weights(events.labels, events.weights, half, half)
        return events.features, events.labels.astype("float32"), weights

    model.compile(
        keras.optimizers.AdamW(0.005, weight_decay=1e-4),
        keras.losses.BinaryCrossentropy(from_logits=True),
        steps_per_execution=16,
    )
    x, y, weights = data(train)
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=15, restore_best_weights=True)
    model.fit(
        x,
        y,
        sample_weight=weights,
        batch_size=512,
        epochs=epochs,
        validation_data=data(validation),
        validation_batch_size=8192,
        callbacks=[stopping],
        verbose=0,
    )


def tune_for_significance(
    model: keras.Model,
    events: higgs.HiggsEvents,
    epochs: int,
    sigma: float | None,
    learning_rate: float | None,
    seed: int,
) -> None:
    """Moves all weights towards a greater significance at the threshold that was best so far."""
    optimizer = keras_extras.optimizers.MonteCarloOptimizer(
        learning_rate,
        population_size=64,
        sigma=sigma,
        sigma_decay_power=0.0,
        generations_per_batch=5,
        seed=seed,
    )
    loss = keras_extras.losses.ApproximateMedianSignificanceLoss(
        threshold=best_threshold(scores_of(model, events), events)
    )
    model.compile(optimizer, loss)
    model.fit(
        events.features,
        events.labels.astype("float32"),
        sample_weight=events.weights,
        batch_size=len(events.labels),
        epochs=epochs,
        verbose=0,
    )


def scores_of(model: keras.Model, events: higgs.HiggsEvents) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(events.features))[:, 0]


def significance(scores: np.ndarray, events: higgs.HiggsEvents, threshold: float) -> float:
    metric = keras_extras.metrics.ApproximateMedianSignificance(threshold)
    return float(metric(events.labels, scores, sample_weight=events.weights))


def best_threshold(scores: np.ndarray, events: higgs.HiggsEvents) -> float:
    """The threshold around which the significance is best; few events make single ones noisy."""
    thresholds = np.quantile(scores, np.linspace(0.6, 0.97, 75)).tolist()
    values = [significance(scores, events, threshold) for threshold in thresholds]
    means = np.convolve(values, np.ones(9) / 9, mode="valid")
    return thresholds[int(np.argmax(means)) + 4]


def select(model: keras.Model, known: higgs.HiggsEvents, unknown: higgs.HiggsEvents) -> np.ndarray:
    """Which of the unknown events are over the threshold that is best on the known ones."""
    return scores_of(model, unknown) > best_threshold(scores_of(model, known), known)


def cross_validate(
    events: higgs.HiggsEvents,
    adam_epochs: int,
    epochs: int,
    hidden: int,
    sigma: float | None,
    learning_rate: float | None,
    seed: int,
) -> dict[str, float]:
    """The significance of what is selected by classifiers that did not know the event."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    events = take(events, np.arange(len(events.labels)))
    selected = {name: np.zeros(len(events.labels)) for name in (TRAINED, TUNED)}
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for known, unknown in folds.split(events.features, events.labels):
        labels = events.labels[known]
        parts = train_test_split(known, test_size=0.25, stratify=labels, random_state=seed)
        train, validation = (take(events, rows) for rows in parts)
        model = make_classifier(train.features, hidden)
        train_by_cross_entropy(model, train, validation, adam_epochs)
        selected[TRAINED][unknown] = select(model, take(events, known), take(events, unknown))
        tune_for_significance(model, train, epochs, sigma, learning_rate, seed)
        selected[TUNED][unknown] = select(model, take(events, known), take(events, unknown))
    return {name: significance(values, events, 0.5) for name, values in selected.items()}


def plot(results: dict[str, list[float]]) -> Any:
    """A line for each seed from the significance of training to that of tuning."""
    up, down = visualization.figures.COLORS[:2]
    axes = visualization.figures.make_axes(None, 5, 4)
    for before, after in zip(results[TRAINED], results[TUNED]):
        axes.plot([0, 1], [before, after], "o-", color=up if after > before else down)
    axes.set_xticks([0, 1], [TRAINED, TUNED])
    axes.set_xlim(-0.3, 1.3)
    axes.set_ylabel("approximate median significance")
    axes.set_title("Events that were selected, one line a seed")
    return axes.figure


def main(
    data: str = "simulated",
    seeds: int = 10,
    epochs: int = 60,
    hidden: int = 0,
    sigma: float | None = None,
    learning_rate: float | None = None,
    out: str | Path = "outputs/maximize_significance",
    fast: bool = False,
) -> dict[str, list[float]]:
    """Runs the example and returns the significances of its table, one for each seed."""
    num_events, adam_epochs = (2_000, 2) if fast else (None, 300)
    seeds, epochs = (1, 2) if fast else (seeds, epochs)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[float]] = {TRAINED: [], TUNED: []}
    print(f"seed{TRAINED:>16}{TUNED:>16}{'improvement':>16}")
    for seed in range(seeds):
        events = higgs.load_events(data, num_events, seed)
        row = cross_validate(events, adam_epochs, epochs, hidden, sigma, learning_rate, seed)
        for name, value in row.items():
            results[name].append(value)
        gain = row[TUNED] - row[TRAINED]
        print(f"{seed:4}{row[TRAINED]:16.3f}{row[TUNED]:16.3f}{gain:16.3f}", flush=True)
    gains = np.array(results[TUNED]) - results[TRAINED]
    for name, summary in (("mean", np.mean), ("median", np.median)):
        values = [summary(values) for values in (*results.values(), gains)]
        print(f"{name:6}{values[0]:14.3f}{values[1]:16.3f}{values[2]:16.3f}")
    print(f"Tuning improves the significance in {np.sum(gains > 0)} of {len(gains)} runs.")
    visualization.save_figure(plot(results), out / "significance.png")
    print(f"Written to {out}: significance.png")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="simulated", help="simulated, atlas or a CSV file")
    parser.add_argument("--seeds", type=int, default=10, help="runs, each with its own splits")
    parser.add_argument("--epochs", type=int, default=60, help="of tuning, with 5 updates each")
    parser.add_argument("--hidden", type=int, default=0, help="hidden units; 0: a linear one")
    parser.add_argument("--sigma", type=float, help="how far tuning looks around")
    parser.add_argument("--learning-rate", type=float, help="of tuning")
    parser.add_argument("--out", default="outputs/maximize_significance", help="folder of figures")
    parser.add_argument("--fast", action="store_true", help="few events, few epochs, one seed")
    main(**vars(parser.parse_args()))
