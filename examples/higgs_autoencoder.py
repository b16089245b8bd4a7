"""An autoencoder trained without gradients, and a classifier on what it encodes.

Events of the Higgs boson machine learning challenge, in which some values are undefined, are
imputed and standardized. A stock Keras autoencoder with an Einstein-form latent layer compresses
their 30 features to 10, trained by MonteCarloOptimizer in stock `fit`. A classifier then
separates signal from background by the features, by the latents, and by both.

    python examples/higgs_autoencoder.py                  # simulated events, about two minutes
    python examples/higgs_autoencoder.py --data atlas     # downloads the CERN open-data file
    python examples/higgs_autoencoder.py --data FILE.csv  # the challenge's or the open-data format
    python examples/higgs_autoencoder.py --fast           # a smoke test of a few seconds
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

import keras_extras
from keras_extras import visualization

LATENTS = 10
CLASSIFIER_EPOCHS, CLASSIFIER_BATCH = 40, 256
FORMS = ("field_equation", "linear", "log", "inverse", "diagonal", "tensor")


class EpochProgress(keras.callbacks.Callback):
    """One progress bar for a whole training run."""

    def __init__(self, title: str):
        super().__init__()
        self.title = title

    def on_train_begin(self, logs=None):
        print(self.title)
        self.bar = keras.utils.Progbar(self.params["epochs"], interval=0.5)

    def on_epoch_end(self, epoch, logs=None):
        self.epoch = epoch + 1
        self.bar.update(self.epoch, [(k, v) for k, v in logs.items() if "loss" in k])

    def on_train_end(self, logs=None):
        if self.epoch < self.params["epochs"]:  # the last epoch ends the line itself
            print(f"\nstopped after {self.epoch} epochs")


def make_optimizer(name: str, steps: int, seed: int) -> keras.optimizers.Optimizer:
    """An optimizer for `steps` steps; those with gradients need a learning rate that falls."""
    if name == "monte_carlo":
        return keras_extras.optimizers.MonteCarloOptimizer(seed=seed)
    rate = keras.optimizers.schedules.PolynomialDecay(0.01, steps, 0.01 / 50)
    optimizer = keras.optimizers.get(name)
    return type(optimizer).from_config({**optimizer.get_config(), "learning_rate": rate})


def make_classifier() -> keras.Model:
    return keras.Sequential(
        [
            keras.layers.Dense(200, activation="swish"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(100, activation="swish"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1, activation="sigmoid"),
        ],
        name="classifier",
    )


def make_pipeline(
    features: np.ndarray, form: str, realizations: int, seed: int
) -> keras_extras.pipelines.AutoencoderClassifier:
    """KernelML's autoencoder, behind imputation and standardization, before a perceptron."""
    imputer = keras_extras.layers.MissingValueImputer()
    imputer.adapt(features)
    standardize = keras.layers.Normalization()
    standardize.adapt(imputer(features))
    width = features.shape[1]
    return keras_extras.pipelines.AutoencoderClassifier(
        preprocessor=keras.Sequential([keras.Input((width,)), imputer, standardize]),
        encoder=keras_extras.layers.EinsteinLatent(LATENTS, form=form),
        decoder=keras.Sequential(
            [keras.layers.Dense(width, use_bias=False), keras_extras.layers.ScaleShift()]
        ),
        classifier=make_classifier(),
        features="input+latent",
        realizations=realizations,
        seed=seed,
    )


def load_events(data: str, num_events: int | None, seed: int) -> dict[str, Any]:
    """Events to train on, to choose on (epochs, thresholds) and to judge by."""
    train, test = keras_extras.datasets.higgs.load_data(data, num_events=num_events, seed=seed)
    cut = int(0.85 * len(train.labels))
    return {
        "train": take(train, slice(None, cut)),
        "validation": take(train, slice(cut, None)),
        "test": test,
    }


def take(events: Any, rows: slice) -> Any:
    """Some of the events, their weights rescaled to the expected numbers of all events."""
    labels = events.labels[rows]
    return events._replace(
        features=events.features[rows],
        labels=labels,
        weights=keras_extras.datasets.higgs.rescale_weights(labels, events.weights[rows]),
        event_ids=events.event_ids[rows],
    )


def train_autoencoders(
    events: dict, optimizer: str, form: str, epochs: int, realizations: int, seed: int
) -> tuple[Any, Any, float]:
    """Stage one: a pipeline with trained autoencoders, their history and the seconds for each."""
    features = events["train"].features
    # Batches of about 500 events, all of the same size.
    steps = max(1, round(len(features) / 500))
    pipeline = make_pipeline(features, form, realizations, seed)
    pipeline.compile(
        autoencoder_optimizer=make_optimizer(optimizer, epochs * steps, seed),
        classifier_optimizer=classifier_optimizer(len(features)),
        steps_per_execution=steps,
    )
    title = f"Autoencoder, form {form!r}, trained by {optimizer}"
    began = time.perf_counter()
    histories = pipeline.fit_autoencoder(
        features,
        batch_size=-(-len(features) // steps),
        epochs=epochs,
        verbose=0,
        callbacks=[EpochProgress(title)],
    )
    return pipeline, histories[0], (time.perf_counter() - began) / realizations


def compare_autoencoders(events: dict, pipelines: dict[str, tuple[Any, float]]) -> dict[str, dict]:
    """Errors of reconstruction beside those of PCA with as many components."""
    first = next(iter(pipelines.values()))[0]
    x = {part: first.preprocess(events[part].features) for part in ("train", "test")}
    pca = PCA(LATENTS).fit(x["train"])

    def row(restore, seconds):
        error = {part: float(np.mean((restore(part) - x[part]) ** 2)) for part in x}
        spread = float(np.var(x["test"], axis=0).mean())
        return {"error": error, "r_squared": 1 - error["test"] / spread, "seconds": seconds}

    rows = {
        f"PCA with {LATENTS} components": row(
            lambda part: pca.inverse_transform(pca.transform(x[part])), None
        )
    }
    floor = rows[f"PCA with {LATENTS} components"]["error"]
    for name, (pipeline, seconds) in pipelines.items():
        rows[f"autoencoder by {name}"] = row(
            lambda part, pipeline=pipeline: pipeline.reconstruct(events[part].features), seconds
        )
    for values in rows.values():
        error = values.pop("error")
        values["mse"] = error["train"]
        values["over_floor"] = error["train"] / floor["train"]
        values["over_floor_on_test"] = error["test"] / floor["test"]
    return rows


def classifier_optimizer(rows: int, epochs: int = CLASSIFIER_EPOCHS) -> keras.optimizers.Optimizer:
    steps = epochs * -(-rows // CLASSIFIER_BATCH)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    return keras.optimizers.AdamW(rate, weight_decay=1e-3)


def compare_classifiers(
    events: dict, pipeline: Any, epochs: int, trees: int, seed: int
) -> dict[str, dict]:
    """Stage two: the same perceptron, and a random forest, on three kinds of features."""
    x = {part: pipeline.preprocess(rows.features) for part, rows in events.items()}
    latents = {part: pipeline.encode(rows.features) for part, rows in events.items()}
    both = {part: pipeline.features_of(rows.features) for part, rows in events.items()}
    labels = {part: rows.labels for part, rows in events.items()}
    results = {}
    for kind, features in {"raw features": x, "latents": latents, "both": both}.items():
        model = make_classifier()
        if kind == "both":
            model = pipeline.classifier
        else:
            model.compile(classifier_optimizer(len(features["train"])), "binary_crossentropy")
        stopping = keras.callbacks.EarlyStopping("val_loss", patience=8, restore_best_weights=True)
        model.fit(
            features["train"],
            labels["train"],
            validation_data=(features["validation"], labels["validation"]),
            batch_size=CLASSIFIER_BATCH,
            epochs=epochs,
            verbose=0,
            callbacks=[stopping, EpochProgress(f"Perceptron on {kind}")],
        )
        scores = {
            part: model.predict(rows, 4096, verbose=0)[:, 0] for part, rows in features.items()
        }
        results[f"perceptron on {kind}"] = judge(scores, events)

        print(f"Random forest on {kind}")
        forest = RandomForestClassifier(trees, min_samples_leaf=3, n_jobs=2, random_state=seed)
        forest.fit(features["train"], labels["train"])
        scores = {part: forest.predict_proba(rows)[:, 1] for part, rows in features.items()}
        results[f"random forest on {kind}"] = judge(scores, events)
    return results


def judge(scores: dict[str, np.ndarray], events: dict) -> dict[str, float]:
    """AUC on test, and the significance there at the threshold that is best on validation.

    Thresholds that select less than 8 % are left out: too few events to measure by.
    """

    def significance(part, threshold):
        metric = keras_extras.metrics.ApproximateMedianSignificance(threshold=float(threshold))
        rows = events[part]
        metric.update_state(rows.labels, scores[part], sample_weight=rows.weights)
        return float(metric.result())

    thresholds = np.quantile(scores["validation"], np.linspace(0.6, 0.92, 33))
    best = max(thresholds, key=lambda threshold: significance("validation", threshold))
    return {
        "auc": float(roc_auc_score(events["test"].labels, scores["test"])),
        "significance": significance("test", best),
    }


def draw(events: dict, pipeline: Any, histories: dict, floor: float, fast: bool) -> dict[str, Any]:
    test = events["test"]
    figures = {
        "loss": visualization.plot_history(histories, floor=floor),
        "latents": visualization.plot_latents(
            pipeline.encode(test.features), test.labels, {0: "background", 1: "signal"}
        ),
        "reconstructions": visualization.plot_reconstructions(
            pipeline.preprocess(test.features),
            pipeline.reconstruct(test.features),
            feature_names=test.feature_names,
        ),
    }
    optimizer = pipeline.autoencoders[0].optimizer
    # A fast run ends before the curvature of each weight is measured.
    if isinstance(optimizer, keras_extras.optimizers.MonteCarloOptimizer) and not fast:
        intervals = {
            "/".join(path.split("/")[-2:]): interval
            for path, interval in optimizer.confidence_intervals(0.9).items()
            if not path.endswith("kernel")
        }
        figures["intervals"] = visualization.plot_intervals(intervals)
    return figures


def main(
    data: str = "simulated",
    events: int | None = None,
    optimizer: str = "monte_carlo",
    form: str = "field_equation",
    epochs: int = 180,
    realizations: int = 1,
    out: str | Path = "outputs/higgs_autoencoder",
    seed: int = 0,
    fast: bool = False,
) -> dict[str, Any]:
    """Runs the example and returns what its tables show."""
    keras.utils.set_random_seed(seed)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    epochs, classifier_epochs, trees = (3, 2, 20) if fast else (epochs, CLASSIFIER_EPOCHS, 300)

    print(f"Loading events: {data}")
    parts = load_events(data, 2_000 if fast else events, seed)
    print(", ".join(f"{len(rows.labels):,} to {part}" for part, rows in parts.items()))

    pipeline, history, seconds = train_autoencoders(
        parts, optimizer, form, epochs, realizations, seed
    )
    reference, reference_history, reference_seconds = train_autoencoders(
        parts, "adam", form, min(epochs, 120), 1, seed
    )
    pipelines = {optimizer: (pipeline, seconds), "adam": (reference, reference_seconds)}
    autoencoders = compare_autoencoders(parts, pipelines)

    floor = next(iter(autoencoders.values()))["mse"]
    histories = {"adam": reference_history, optimizer: history}
    figures = draw(parts, pipeline, histories, floor, fast)
    for name, figure in figures.items():
        visualization.save_figure(figure, out / f"{name}.png")
    print(f"Figures written to {out}; now the classifiers", flush=True)
    classifiers = compare_classifiers(parts, pipeline, classifier_epochs, trees, seed)

    pipeline.save(out / "pipeline.keras")
    loaded = keras.models.load_model(out / "pipeline.keras")
    predictions = [
        model.predict(parts["test"].features, 4096, verbose=0) for model in (pipeline, loaded)
    ]
    difference = float(np.abs(predictions[0] - predictions[1]).max())

    print_tables(autoencoders, classifiers)
    print(f"\nSaved and loaded again, predictions differ by at most {difference:.1e}.")
    print(f"Written to {out}: pipeline.keras, {', '.join(f'{name}.png' for name in figures)}")
    return {"autoencoders": autoencoders, "classifiers": classifiers, "difference": difference}


def print_tables(autoencoders: dict, classifiers: dict) -> None:
    print(f"\n{'reconstruction':36}{'MSE':>9}{'MSE / floor':>13}{'on test':>9}{'R^2':>8}{'s':>7}")
    for name, row in autoencoders.items():
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
        print(
            f"{name:36}{row['mse']:9.4f}{row['over_floor']:13.4f}"
            f"{row['over_floor_on_test']:9.4f}{row['r_squared']:8.3f}{seconds:>7}"
        )
    print(f"\n{'signal against background':36}{'AUC':>9}{'significance':>14}")
    for name, row in classifiers.items():
        print(f"{name:36}{row['auc']:9.4f}{row['significance']:14.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="simulated", help="simulated, atlas or a CSV file")
    parser.add_argument("--events", type=int, help="the first of a file, or so many to simulate")
    parser.add_argument(
        "--optimizer",
        default="monte_carlo",
        help="of the autoencoder: monte_carlo or the name of a Keras optimizer",
    )
    parser.add_argument("--form", default="field_equation", choices=FORMS)
    parser.add_argument("--epochs", type=int, default=180, help="of the autoencoder")
    parser.add_argument("--realizations", type=int, default=1, help="autoencoders to stack")
    parser.add_argument("--out", default="outputs/higgs_autoencoder", help="folder for figures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="few events, few epochs")
    main(**vars(parser.parse_args()))
