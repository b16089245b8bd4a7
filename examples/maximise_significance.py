"""A classifier of Higgs events, tuned for the significance of what it selects.

A search for new particles is judged by the significance of the events that it selects, a count
with no gradient, so that classifiers are trained for the cross-entropy in its place. Here a linear
classifier is trained so, by Adam until the validation loss stops falling, and then tuned for the
significance itself: by MonteCarloOptimizer in stock `fit`, on full batches, from the weights that
the cross-entropy gave. Both are judged on events that nothing was trained or chosen on, at the
threshold that is best on all others.

    python examples/maximise_significance.py                  # simulated events, about two minutes
    python examples/maximise_significance.py --data atlas     # downloads the CERN open-data file
    python examples/maximise_significance.py --data FILE.csv  # the challenge's or the open format
    python examples/maximise_significance.py --hidden 8 --sigma 0.15 --learning-rate 0.003
    python examples/maximise_significance.py --fast           # a smoke test of a few seconds
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_extras
from keras_extras.datasets import higgs

PLAIN, WEIGHTED, TUNED = "cross-entropy", "weighted cross-entropy", "then tuned"


def load_parts(data: str, num_events: int | None, seed: int) -> dict[str, higgs.HiggsEvents]:
    """Half of the events to train on, a fifth to stop by, the rest to judge by."""
    train, test = higgs.load_data(data, num_events=num_events, test_size=0.3, seed=seed)
    cut = round(5 / 7 * len(train.labels))
    return {
        "train": take(train, slice(None, cut)),
        "validation": take(train, slice(cut, None)),
        "train and validation": train,
        "test": test,
    }


def take(events: higgs.HiggsEvents, rows: slice) -> higgs.HiggsEvents:
    """Some of the events, their weights rescaled to the expected numbers of all events."""
    labels = events.labels[rows]
    weights = higgs.rescale_weights(labels, events.weights[rows])
    features, ids = events.features[rows], events.event_ids[rows]
    return events._replace(features=features, labels=labels, weights=weights, event_ids=ids)


def make_classifier(features: np.ndarray, hidden: int) -> keras.Model:
    """Imputation, standardisation, and a linear classifier or a perceptron, with logits."""
    imputer, standardize = keras_extras.layers.MissingValueImputer(), keras.layers.Normalization()
    imputer.adapt(features)
    standardize.adapt(imputer(features))
    units = [keras.layers.Dense(hidden, activation="tanh")] if hidden else []
    width = features.shape[1]
    return keras.Sequential(
        [keras.Input((width,)), imputer, standardize, *units, keras.layers.Dense(1)]
    )


def train_by_cross_entropy(
    parts: dict[str, higgs.HiggsEvents], hidden: int, weighted: bool, epochs: int
) -> keras.Model:
    """Trains until the validation loss stops falling; weights of both classes sum to the same."""

    def data(part):
        events = parts[part]
        half = len(events.labels) / 2
        balanced = higgs.rescale_weights(events.labels, events.weights, half, half)
        weights = balanced if weighted else np.ones_like(balanced)
        return events.features, events.labels.astype("float32"), weights

    model = make_classifier(parts["train"].features, hidden)
    model.compile(
        keras.optimizers.AdamW(0.005, weight_decay=1e-4),
        keras.losses.BinaryCrossentropy(from_logits=True),
        steps_per_execution=8,
    )
    x, y, weights = data("train")
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=15, restore_best_weights=True)
    model.fit(
        x,
        y,
        sample_weight=weights,
        batch_size=256,
        epochs=epochs,
        validation_data=data("validation"),
        validation_batch_size=8192,
        callbacks=[stopping],
        verbose=0,
    )
    return model


def tune_for_significance(
    model: keras.Model,
    events: higgs.HiggsEvents,
    epochs: int,
    sigma: float,
    learning_rate: float,
    seed: int,
) -> None:
    """Moves all weights towards a greater significance at the threshold that was best so far."""
    optimizer = keras_extras.optimizers.MonteCarloOptimizer(
        learning_rate,
        population_size=64,
        sigma=sigma,
        sigma_decay=0.0,
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


def judge(model: keras.Model, parts: dict[str, higgs.HiggsEvents]) -> float:
    """The significance on test at the threshold that is best on what is not test."""
    known, test = parts["train and validation"], parts["test"]
    threshold = best_threshold(scores_of(model, known), known)
    return significance(scores_of(model, test), test, threshold)


def main(
    data: str = "simulated",
    seeds: int = 10,
    epochs: int = 30,
    hidden: int = 0,
    sigma: float = 0.05,
    learning_rate: float = 0.01,
    fast: bool = False,
) -> dict[str, list[float]]:
    """Runs the example and returns the significances of its table, one for each seed."""
    num_events, adam_epochs = (2_000, 2) if fast else (None, 300)
    seeds, epochs = (1, 2) if fast else (seeds, epochs)
    results: dict[str, list[float]] = {PLAIN: [], WEIGHTED: [], TUNED: []}
    print(f"{'seed':4}" + "".join(f"{name:>24}" for name in results))
    for seed in range(seeds):
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        parts = load_parts(data, num_events, seed)
        for name, weighted in ((PLAIN, False), (WEIGHTED, True)):
            model = train_by_cross_entropy(parts, hidden, weighted, adam_epochs)
            results[name].append(judge(model, parts))
        tune_for_significance(model, parts["train"], epochs, sigma, learning_rate, seed)
        results[TUNED].append(judge(model, parts))
        row = "".join(f"{values[-1]:24.3f}" for values in results.values())
        print(f"{seed:4}{row}", flush=True)
    print_table(results)
    return results


def print_table(results: dict[str, list[float]]) -> None:
    tuned = np.array(results[TUNED])
    print(f"\n{'significance on test':28}{'mean':>8}{'median':>8}")
    for name, values in results.items():
        print(f"{name:28}{np.mean(values):8.3f}{np.median(values):8.3f}")
    print(f"\n{'improvement by tuning over':28}{'mean':>8}{'median':>8}{'wins':>10}")
    for name in (PLAIN, WEIGHTED):
        gains = tuned - results[name]
        wins = f"{np.sum(gains > 0)} of {len(gains)}"
        print(f"{name:28}{np.mean(gains):8.3f}{np.median(gains):8.3f}{wins:>10}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="simulated", help="simulated, atlas or a CSV file")
    parser.add_argument("--seeds", type=int, default=10, help="runs, each with a split of its own")
    parser.add_argument("--epochs", type=int, default=30, help="of tuning, with 5 updates each")
    parser.add_argument("--hidden", type=int, default=0, help="hidden units; 0: a linear one")
    parser.add_argument("--sigma", type=float, default=0.05, help="how far tuning looks around")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="of tuning")
    parser.add_argument("--fast", action="store_true", help="few events, few epochs, one seed")
    main(**vars(parser.parse_args()))
