"""An autoencoder trained without gradients, and a classifier on what it encodes.

Events of the Higgs boson machine learning challenge, in which some values are undefined, are
imputed and standardised. A stock Keras autoencoder with an Einstein-form latent layer compresses
their 30 features to 10, trained by MonteCarloOptimizer in stock `fit`. A classifier then tells
signal from background by the features, by the latents, and by both.

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
FORMS = ("field_equation", "linear", "log", "inverse", "diagonal", "tensor")


class EpochProgress(keras.callbacks.Callback):
    """One progress bar for a whole training run."""

    def __init__(self, title: str):
        super().__init__()
        self.title = title

    def on_train_begin(self, logs=None):
        print(self.title)
        self.bar = keras.utils.Progbar(self.params["epochs"], stateful_metrics=None, interval=0.5)

    def on_epoch_end(self, epoch, logs=None):
        shown = {name: value for name, value in (logs or {}).items() if "loss" in name}
        self.bar.update(epoch + 1, values=shown.items())

    def on_train_end(self, logs=None):
        if self.bar._seen_so_far < self.bar.target:
            print()


def make_optimizer(name: str, steps: int, seed: int) -> keras.optimizers.Optimizer:
    """An optimizer for `steps` steps, its learning rate falling to a fiftieth."""
    if name == "monte_carlo":
        rate = keras.optimizers.schedules.PolynomialDecay(0.02, steps, 0.02 / 50)
        return keras_extras.optimizers.MonteCarloOptimizer(rate, seed=seed)
    rate = keras.optimizers.schedules.PolynomialDecay(0.01, steps, 0.01 / 50)
    optimizer = keras.optimizers.get(name)
    return type(optimizer).from_config({**optimizer.get_config(), "learning_rate": rate})


def make_classifier() -> keras.Model:
    return keras.Sequential(
        [
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(50, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1, activation="sigmoid"),
        ],
        name="classifier",
    )


def make_pipeline(
    features: np.ndarray, form: str, realizations: int, seed: int
) -> keras_extras.pipelines.AutoencoderClassifier:
    """KernelML's autoencoder, behind imputation and standardisation, before a perceptron."""
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


def judge(scores: dict[str, np.ndarray], events: dict[str, Any]) -> dict[str, float]:
    """AUC on test, and the significance at the threshold that is best on validation."""

    def significance(part, threshold):
        metric = keras_extras.metrics.ApproximateMedianSignificance(threshold=threshold)
        labels, weights = events[part].labels, events[part].weights
        metric.update_state(labels, scores[part], sample_weight=weights)
        return float(metric.result())

    thresholds = np.quantile(scores["validation"], np.linspace(0.6, 0.97, 38))
    best = max(thresholds, key=lambda threshold: significance("validation", float(threshold)))
    return {
        "auc": float(roc_auc_score(events["test"].labels, scores["test"])),
        "ams": significance("test", float(best)),
    }


def hold_out(events: Any, share: float) -> tuple[Any, Any]:
    """The first rows and the last `share` of rows, weights of both rescaled to the whole."""
    cut = int(len(events.labels) * (1 - share))
    parts = []
    for rows in (slice(None, cut), slice(cut, None)):
        labels = events.labels[rows]
        parts.append(
            events._replace(
                features=events.features[rows],
                labels=labels,
                weights=keras_extras.datasets.higgs.rescale_weights(labels, events.weights[rows]),
                event_ids=events.event_ids[rows],
            )
        )
    return tuple(parts)


def main(
    data: str = "simulated",
    optimizer: str = "monte_carlo",
    form: str = "field_equation",
    epochs: int | None = None,
    realizations: int = 1,
    out: str | Path = "outputs/higgs_autoencoder",
    seed: int = 0,
    fast: bool = False,
) -> dict[str, Any]:
    """Runs the example and returns what its tables show."""
    keras.utils.set_random_seed(seed)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    epochs = epochs or (3 if fast else 180)
    classifier_epochs, trees = (2, 20) if fast else (25, 300)

    print(f"Loading events: {data}")
    load_data = keras_extras.datasets.higgs.load_data
    train, test = load_data(data, num_events=2_000 if fast else None, seed=seed)
    train, validation = hold_out(train, 0.15)
    events = {"train": train, "validation": validation, "test": test}
    print(", ".join(f"{len(part.labels):,} {name}" for name, part in events.items()))

    # Stage one: no labels are used. Batches of about 500, all of the same size.
    steps = max(1, round(len(train.labels) / 500))
    batch_size = -(-len(train.labels) // steps)
    pipeline = make_pipeline(train.features, form, realizations, seed)
    x = dict.fromkeys(events)
    pipeline.compile(
        autoencoder_optimizer=make_optimizer(optimizer, epochs * steps, seed),
        classifier_optimizer=keras.optimizers.Adam(1e-3),
        steps_per_execution=steps,
    )
    began = time.perf_counter()
    histories = pipeline.fit_autoencoder(
        train.features,
        batch_size=batch_size,
        epochs=epochs,
        verbose=0,
        callbacks=[EpochProgress(f"Autoencoder, {form} form, {optimizer}, {realizations} x")],
    )
    seconds = (time.perf_counter() - began) / realizations
    x = {name: pipeline.preprocess(part.features) for name, part in events.items()}

    print("The same network with the gradient")
    reference = make_pipeline(train.features, form, 1, seed)
    adam_epochs = min(epochs, 120)
    reference.compile(make_optimizer("adam", adam_epochs * steps, seed), steps_per_execution=steps)
    began = time.perf_counter()
    adam_histories = reference.fit_autoencoder(
        train.features,
        batch_size=batch_size,
        epochs=adam_epochs,
        verbose=0,
        callbacks=[EpochProgress("Autoencoder, Adam")],
    )
    adam_seconds = time.perf_counter() - began

    pca = PCA(LATENTS).fit(x["train"])
    restored = {
        f"PCA with {LATENTS} components (the floor)": (
            {part: pca.inverse_transform(pca.transform(rows)) for part, rows in x.items()},
            None,
        ),
        f"autoencoder, {optimizer}": (
            {part: pipeline.reconstruct(events[part].features) for part in x},
            seconds,
        ),
        "autoencoder, adam": (
            {part: reference.reconstruct(events[part].features) for part in x},
            adam_seconds,
        ),
    }
    error = {
        name: {part: float(np.mean((rows - x[part]) ** 2)) for part, rows in parts.items()}
        for name, (parts, _) in restored.items()
    }
    floor = next(iter(error.values()))
    autoencoders = {
        name: {
            "mse": error[name]["train"],
            "over_floor": error[name]["train"] / floor["train"],
            "over_floor_test": error[name]["test"] / floor["test"],
            "r_squared": 1 - error[name]["test"] / float(np.var(x["test"], axis=0).mean()),
            "seconds": seconds,
        }
        for name, (_, seconds) in restored.items()
    }

    # Stage two: the same perceptron on three kinds of features, and random forests beside it.
    latents = {name: pipeline.encode(part.features) for name, part in events.items()}
    inputs = {
        "raw features": x,
        "latents": latents,
        "both": {name: np.hstack([x[name], latents[name]]) for name in x},
    }
    classifiers = {}
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True)
    for name, parts in inputs.items():
        model = pipeline.classifier if name == "both" else make_classifier()
        fit = {
            "batch_size": 128,
            "epochs": classifier_epochs,
            "verbose": 0,
            "callbacks": [stopping, EpochProgress(f"Classifier on {name}")],
        }
        if name == "both":
            pipeline.fit_classifier(
                train.features,
                train.labels,
                validation_data=(validation.features, validation.labels),
                **fit,
            )
        else:
            model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy")
            model.fit(
                parts["train"],
                train.labels,
                validation_data=(parts["validation"], validation.labels),
                **fit,
            )
        scores = {part: model.predict(rows, 4096, verbose=0)[:, 0] for part, rows in parts.items()}
        classifiers[f"perceptron on {name}"] = judge(scores, events)

        print(f"Random forest on {name}")
        forest = RandomForestClassifier(trees, min_samples_leaf=3, n_jobs=2, random_state=seed)
        forest.fit(parts["train"], train.labels)
        scores = {part: forest.predict_proba(rows)[:, 1] for part, rows in parts.items()}
        classifiers[f"random forest on {name}"] = judge(scores, events)

    # One file holds it all.
    pipeline.save(out / "pipeline.keras")
    loaded = keras.models.load_model(out / "pipeline.keras")
    difference = float(
        np.abs(
            loaded.predict(test.features, 4096, verbose=0)
            - pipeline.predict(test.features, 4096, verbose=0)
        ).max()
    )

    figures = {
        "loss": visualization.plot_history(
            {optimizer: histories[0], "adam": adam_histories[0]}, floor=floor["train"]
        ),
        "latents": visualization.plot_latents(latents["test"], test.labels),
        "reconstructions": visualization.plot_reconstructions(
            x["test"],
            pipeline.reconstruct(test.features),
            feature_names=test.feature_names,
        ),
    }
    trained_by = pipeline.autoencoders[0].optimizer
    if isinstance(trained_by, keras_extras.optimizers.MonteCarloOptimizer):
        intervals = {
            path: interval
            for path, interval in trained_by.confidence_intervals(0.9).items()
            if not path.endswith("kernel")
        }
        figures["intervals"] = visualization.plot_intervals(intervals)
    for name, figure in figures.items():
        visualization.save_figure(figure, out / f"{name}.png")

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
            f"{row['over_floor_test']:9.4f}{row['r_squared']:8.3f}{seconds:>7}"
        )
    print(f"\n{'signal against background':36}{'AUC':>9}{'significance':>14}")
    for name, row in classifiers.items():
        print(f"{name:36}{row['auc']:9.4f}{row['ams']:14.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="simulated", help="simulated, atlas or a CSV file")
    parser.add_argument(
        "--optimizer",
        default="monte_carlo",
        help="of the autoencoder: monte_carlo or the name of a Keras optimizer",
    )
    parser.add_argument("--form", default="field_equation", choices=FORMS)
    parser.add_argument("--epochs", type=int, help="of the autoencoder (default: 180)")
    parser.add_argument("--realizations", type=int, default=1, help="autoencoders to stack")
    parser.add_argument("--out", default="outputs/higgs_autoencoder", help="folder for figures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="few events, few epochs")
    main(**vars(parser.parse_args()))
