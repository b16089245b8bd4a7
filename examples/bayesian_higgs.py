"""A classifier of Higgs events that knows what it does not know.

An autoencoder compresses the events of the Higgs boson machine learning challenge to 10 latents. A
classifier whose weights have posteriors (Flipout layers) separates signal from background by the
features and the latents. Averaged over 100 draws of the weights it gives probabilities, and for
each event the mutual information: how much of its doubt is about the weights, which more events
would settle, rather than about the event.

    python examples/bayesian_higgs.py                  # simulated events, about a minute
    python examples/bayesian_higgs.py --data atlas     # downloads the CERN open-data file
    python examples/bayesian_higgs.py --data FILE.csv  # the challenge's or the open-data format
    python examples/bayesian_higgs.py --fast           # a smoke test of a few seconds
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

import keras_extras
from keras_extras import layers, visualization

LATENTS = 10
KEPT = (1.0, 0.9, 0.75, 0.5, 0.25)


def make_classifier() -> keras.Model:
    """A perceptron with a posterior for each weight, and the labels' distribution at its end."""
    bayesian = {"kl_weight": "auto", "posterior": "mean_field", "prior": "scale_mixture"}
    return keras.Sequential(
        [
            layers.DenseFlipout(64, activation="swish", **bayesian),
            layers.DenseFlipout(32, activation="swish", **bayesian),
            layers.DenseFlipout(1, **bayesian),
            layers.IndependentBernoulli(1, convert_to_tensor_fn="mean"),
        ],
        name="classifier",
    )


def make_pipeline(features: np.ndarray, seed: int) -> keras_extras.pipelines.AutoencoderClassifier:
    """Imputation and standardization, an autoencoder, and the classifier on both."""
    imputer = layers.MissingValueImputer()
    imputer.adapt(features)
    standardize = keras.layers.Normalization()
    standardize.adapt(imputer(features))
    width = features.shape[1]
    return keras_extras.pipelines.AutoencoderClassifier(
        preprocessor=keras.Sequential([keras.Input((width,)), imputer, standardize]),
        encoder=layers.EinsteinLatent(LATENTS),
        decoder=keras.Sequential([keras.layers.Dense(width, use_bias=False), layers.ScaleShift()]),
        classifier=make_classifier(),
        features="input+latent",
        seed=seed,
    )


def negative_log_likelihood(labels: Any, rv_labels: Any) -> Any:
    return -rv_labels.log_prob(labels)


def judge(labels: np.ndarray, one_draw: np.ndarray, prediction: Any) -> dict[str, Any]:
    """Scores of one draw and of the average, and of the events that the weights agree about."""
    probability = np.asarray(prediction.mean())[:, 0]
    information = np.asarray(prediction.mutual_information())[:, 0]
    surest_first = np.argsort(information)
    kept = {}
    for share in KEPT:
        rows = surest_first[: max(2, int(share * len(labels)))]
        kept[share] = float(roc_auc_score(labels[rows], probability[rows]))
    error = keras_extras.metrics.ExpectedCalibrationError()
    scores = {}
    for name, values in (("one draw", one_draw), ("average", probability)):
        error.reset_state()
        error.update_state(labels, values)
        scores[name] = {
            "auc": float(roc_auc_score(labels, values)),
            "calibration_error": float(error.result()),
        }
    return {"scores": scores, "auc_of_kept": kept, "mutual_information": information}


def plot(labels: np.ndarray, result: dict[str, Any]) -> Any:
    """The mutual information of both kinds of events, and the AUC of the surest of them."""
    figures = visualization.figures
    figure = figures.make_figure(11, 4)
    left, right = figure.subplots(1, 2)
    for ax in (left, right):
        figures.style_axes(ax)
    information = 1000.0 * result["mutual_information"]
    bins = np.linspace(0.0, np.quantile(information, 0.99), 50)
    for value, name, color in zip((1, 0), ("signal", "background"), figures.COLORS):
        of_kind = information[labels == value]
        left.hist(of_kind, bins, density=True, alpha=0.6, color=color, label=name)
    left.set_xlabel("mutual information of label and weights, thousandths of a nat")
    left.set_ylabel("density")
    left.legend(frameon=False)
    percent = [100 * share for share in result["auc_of_kept"]]
    right.plot(percent, list(result["auc_of_kept"].values()), "o-", color=figures.COLORS[0])
    right.set_xlabel("events kept, the surest first, %")
    right.set_ylabel("area under the ROC curve")
    return figure


def main(
    data: str = "simulated",
    events: int | None = 20_000,
    epochs: int = 40,
    num_samples: int = 100,
    out: str | Path = "outputs/bayesian_higgs",
    seed: int = 0,
    fast: bool = False,
) -> dict[str, Any]:
    """Runs the example and returns what it prints."""
    events, epochs, num_samples = (1500, 2, 10) if fast else (events, epochs, num_samples)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    train, test = keras_extras.datasets.higgs.load_data(data, num_events=events, seed=seed)
    pipeline = make_pipeline(train.features, seed)
    pipeline.compile(
        autoencoder_optimizer=keras.optimizers.Adam(0.01),
        classifier_optimizer=keras.optimizers.Adam(0.003),
        classifier_loss=negative_log_likelihood,
        steps_per_execution=16,
    )
    print(f"{len(train.labels)} events to train with, {len(test.labels)} to judge by")
    pipeline.fit(
        train.features,
        train.labels.astype("float32")[:, None],
        batch_size=128,
        autoencoder_epochs=max(1, epochs // 4),
        classifier_epochs=epochs,
        classifier_callbacks=[keras_extras.callbacks.KLWarmUp(max(1, epochs // 2))],
        verbose=0,
    )
    features = pipeline.features_of(test.features)
    one_draw = pipeline.classifier.predict(features, batch_size=4096, verbose=0)[:, 0]
    prediction = keras_extras.predict_distribution(
        pipeline.classifier, features, num_samples=num_samples, batch_size=1024, seed=seed
    )
    result = judge(test.labels, one_draw, prediction)
    visualization.save_figure(plot(test.labels, result), out / "uncertainty.png")
    print(f"\n{'prediction':12}{'AUC':>8}{'calibration error':>20}")
    for name, scores in result["scores"].items():
        print(f"{name:12}{scores['auc']:8.4f}{scores['calibration_error']:20.4f}")
    print(f"\n{'events kept, the surest first':32}{'AUC':>8}")
    for share, auc in result["auc_of_kept"].items():
        print(f"{100 * share:30.0f} %{auc:8.4f}")
    print(f"Written to {out}: uncertainty.png")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="simulated", help="simulated, atlas, or a file")
    parser.add_argument("--events", type=int, default=20_000, help="events, of all of the data")
    parser.add_argument("--epochs", type=int, default=40, help="of the classifier")
    parser.add_argument("--num-samples", type=int, default=100, help="draws of the weights")
    parser.add_argument("--out", default="outputs/bayesian_higgs", help="folder for the figure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="few events, few epochs")
    main(**vars(parser.parse_args()))
