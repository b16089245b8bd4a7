"""How sure is the network you have? A forecast of a series by an LSTM, with uncertainty five ways.

The series is simulated: two waves and noise that grows with the level. An LSTM sees the last 12
values and predicts a normal distribution of the next one. Each case gives the same network
uncertain weights, or leaves them as they are:

- network: trained by Adam as always. Only the noise of the next value is learned.
- variational: `make_variational` gives the kernels of the trained network a posterior around their
  values, and a few more epochs settle it.
- variational LSTM: a new network whose LSTM is wrapped in `layers.Variational`.
- SWAG: a few more epochs of SGD, and the normal distribution of the weights that it passed through.
- IVON: the optimizer learns the posterior while it trains a new network.

Then, whatever the case, rows that had no part in training turn its intervals into ones with a
guarantee (conformal prediction), and the probabilities of an LSTM that was trained for too long, of
whether the next value is higher, into calibrated ones (temperature scaling).

    python examples/uncertainty_for_any_model.py                # all cases, some minutes
    python examples/uncertainty_for_any_model.py --cases SWAG   # some of them
    python examples/uncertainty_for_any_model.py --fast         # a smoke test
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import keras_extras
from keras_extras import callbacks, inference, layers, optimizers, visualization

WINDOW, UNITS, BATCH, DRAWS, LEVEL = 12, 16, 32, 50, 0.9


class Rows(NamedTuple):
    """Windows of the series, and the values that follow them."""

    x: np.ndarray
    y: np.ndarray

    def rises(self) -> np.ndarray:
        """Whether the next value is higher than the last one of the window."""
        return (self.y[:, 0] > self.x[:, -1, 0]).astype("int32")


def simulate(length: int, seed: int) -> Rows:
    """All windows of a series: two waves, and noise that grows with the level."""
    generator = np.random.default_rng(seed)
    time = np.arange(length + WINDOW)
    level = np.sin(0.31 * time) + 0.5 * np.sin(0.043 * time)
    series = level + (0.1 + 0.1 * (level > 0.0)) * generator.normal(size=len(time))
    windows = np.lib.stride_tricks.sliding_window_view(series, WINDOW + 1)[:length, :, None]
    return Rows(windows[:, :-1].astype("float32"), windows[:, -1].astype("float32"))


def network(wrap: Callable = lambda layer: layer) -> keras.Model:
    """An LSTM that predicts a normal distribution; `wrap` is called with its recurrent layer."""
    return keras.Sequential(
        [
            keras.Input((WINDOW, 1)),
            wrap(keras.layers.LSTM(UNITS)),
            keras.layers.Dense(2),
            layers.IndependentNormal(1),
        ]
    )


def train(model: keras.Model, rows: Rows, optimizer: Any, epochs: int, **arguments: Any) -> None:
    """Stock `compile` and `fit`, with the rows in another order in each epoch."""
    data = tf.data.Dataset.from_tensor_slices(tuple(rows)).shuffle(len(rows.x)).batch(BATCH)
    model.compile(optimizer, loss=lambda y, rv_y: -rv_y.log_prob(y))
    model.fit(data, epochs=epochs, shuffle=False, verbose=0, **arguments)


def trained(rows: Rows, epochs: int) -> keras.Model:
    model = network()
    train(model, rows, keras.optimizers.Adam(0.01), epochs)
    return model


def variational(rows: Rows, epochs: int) -> keras.Model:
    """The trained network, its kernels uncertain, trained on for a third of the epochs."""
    uncertain = keras_extras.make_variational(trained(rows, epochs), "*kernel")
    train(uncertain, rows, keras.optimizers.Adam(0.002), -(-epochs // 3))
    return uncertain


def variational_lstm(rows: Rows, epochs: int) -> keras.Model:
    """A new network whose LSTM is uncertain, and twice the epochs, as its gradients are noisy."""
    model = network(wrap=lambda lstm: layers.Variational(lstm, posterior={"*kernel": "mean_field"}))
    train(model, rows, keras.optimizers.Adam(0.01), 2 * epochs)
    return model


def swag(rows: Rows, epochs: int) -> inference.Posterior:
    """The trained network, and as many epochs of SGD at a constant rate."""
    model = trained(rows, epochs)
    collect = callbacks.SWAG(start_epoch=0)
    train(model, rows, keras.optimizers.SGD(0.01), max(epochs, 2), callbacks=[collect])
    return inference.Posterior.from_callback(collect, num_draws=DRAWS)


def ivon(rows: Rows, epochs: int) -> inference.Posterior:
    """A new network, trained by the optimizer that learns a posterior."""
    model = network()
    train(model, rows, optimizers.IVON(0.1, beta_2=0.999, hess_init=0.3), 2 * epochs)
    return inference.Posterior.from_optimizer(model, num_draws=DRAWS)


CASES: dict[str, Callable[[Rows, int], Any]] = {
    "network": trained,
    "variational": variational,
    "variational LSTM": variational_lstm,
    "SWAG": swag,
    "IVON": ivon,
}


def predict(found: Any, x: np.ndarray) -> Any:
    """The predictive distribution, of the draws of a posterior or of a model."""
    if isinstance(found, inference.Posterior):
        return found.predict_distribution(x, num_samples=DRAWS, seed=0)
    return keras_extras.predict_distribution(found, x, num_samples=DRAWS, seed=0)


def coverage(interval: Sequence[Any], y: np.ndarray) -> tuple[float, float]:
    """The share of targets in intervals, and the mean width of these."""
    lower, upper = map(np.asarray, interval)
    return float(np.mean((lower <= y) & (y <= upper))), float(np.mean(upper - lower))


def score(prediction: Any, held_out: Rows, test: Rows) -> dict[str, float]:
    """Returns coverage and width of the intervals, before and after conformal calibration."""
    share, width = coverage(prediction.interval(LEVEL), test.y)
    conformal = prediction.conformalize(held_out.x, held_out.y)
    conformal_share, conformal_width = coverage(conformal.interval(LEVEL), test.y)
    return {
        "nll": -float(np.mean(prediction.log_prob(test.y))),
        "epistemic": float(np.mean(np.sqrt(prediction.epistemic_variance()))),
        "coverage": share,
        "width": width,
        "conformal_coverage": conformal_share,
        "conformal_width": conformal_width,
    }


def calibrate(rows: Rows, held_out: Rows, epochs: int) -> list[keras.Model]:
    """A classifier that was trained for too long, and the same with calibrated probabilities."""
    classifier = keras.Sequential(
        [
            keras.Input((WINDOW, 1)),
            keras.layers.LSTM(2 * UNITS),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    classifier.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    classifier.fit(rows.x, rows.rises(), batch_size=BATCH, epochs=3 * epochs, verbose=0)
    return [classifier, inference.temperature_scale(classifier, held_out.x, held_out.rises())]


def main(
    cases: Sequence[str] = tuple(CASES),
    rows: int = 400,
    epochs: int = 60,
    out: str | Path = "outputs/uncertainty_for_any_model",
    seed: int = 0,
    fast: bool = False,
) -> dict[str, dict[str, dict[str, float]]]:
    """Runs the example and returns the numbers of its two tables."""
    rows, epochs = (100, 2) if fast else (rows, epochs)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    training, held_out, test = (simulate(rows, seed + number) for number in range(3))
    shown = slice(0, 80)

    scores = {}
    bands = visualization.figures.make_figure(7, 2.2 * len(cases))
    axes = bands.subplots(len(cases), 1, sharex=True, squeeze=False)[:, 0]
    titles = ("NLL", "epistemic", "90 % hold", "width", "conformal", "width")
    print(f"{'':18}" + "".join(f"{title:>11}" for title in titles))
    for name, ax in zip(cases, axes):
        keras.utils.set_random_seed(seed)
        prediction = predict(CASES[name](training, epochs), test.x)
        scores[name] = values = score(prediction, held_out, test)
        numbers = "".join(f"{value:11.3f}" for value in values.values())
        print(f"{name:18}{numbers}", flush=True)
        time = np.arange(len(test.y))[shown]
        lower, upper = (np.asarray(end)[shown, 0] for end in prediction.interval(LEVEL))
        ax.fill_between(time, lower, upper, alpha=0.3)
        ax.plot(time, np.asarray(prediction.mean())[shown, 0])
        ax.plot(time, test.y[shown, 0], "k.", markersize=3)
        ax.set_title(name)

    calibration = {}
    reliability = visualization.figures.make_figure(8, 4)
    panels = reliability.subplots(1, 2)
    keras.utils.set_random_seed(seed)
    models = calibrate(training, held_out, epochs)
    print(f"\n{'next value higher':18}{'NLL':>8}{'calibration error':>19}{'accuracy':>10}")
    for name, model, ax in zip(("trained", "calibrated"), models, panels):
        probabilities = model.predict(test.x, verbose=0)
        labels = test.rises()
        diagram = visualization.ReliabilityDiagram.from_predictions(labels, probabilities)
        diagram.plot(ax=ax)
        ax.set_title(name)
        of_labels = np.maximum(np.take_along_axis(probabilities, labels[:, None], 1), 1e-12)
        calibration[name] = values = {
            "nll": -float(np.mean(np.log(of_labels))),
            "error": float(diagram.expected_calibration_error),
            "accuracy": float(np.mean(np.argmax(probabilities, axis=1) == labels)),
        }
        print(f"{name:18}{values['nll']:8.3f}{values['error']:19.3f}{values['accuracy']:10.3f}")

    for name, figure in {"intervals": bands, "reliability": reliability}.items():
        visualization.save_figure(figure, out / f"{name}.png")
    print(f"Written to {out}: intervals.png, reliability.png")
    return {"forecasts": scores, "classifiers": calibration}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--rows", type=int, default=400, help="of training, held out, and test")
    parser.add_argument("--epochs", type=int, default=60, help="of the network")
    parser.add_argument("--out", default="outputs/uncertainty_for_any_model", help="for figures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="few rows, few epochs")
    main(**vars(parser.parse_args()))
