"""Laplace approximations of networks for handwritten digits: seconds, and NLL of held-out rows.

The digits of scikit-learn, a fifth of them to test on and a fifth to choose by; 784-100-10 takes
them upscaled to 28 x 28 pixels, and 64-32-10 as they are, small enough for the full curvature.
Training has the prior that approximations start from, a standard deviation of 0.5. `plain` is the
trained network alone. Each approximation is measured with three priors: that of training, the one
of the greatest marginal likelihood, and that of the least NLL of the rows to choose by, which
`optimize_prior_stddev(validation_data=...)` finds.

Seconds are medians: of an epoch of `fit` with batches of 32 rows, of the curvature by a function
that is compiled already, as the epochs are, and of both searches for the prior. The first epoch and
the first curvature, which compile, stand in parentheses.

    python benchmarks/laplace.py
"""

import os
import time
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import command_line, conditions, write_json
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_extras import layers
from keras_extras.inference import LaplaceApproximation

NETWORKS = {"784-100-10": 100, "64-32-10": 32}
FITS = {
    "full": ("full", "all"),
    "kron": ("kron", "all"),
    "diag": ("diag", "all"),
    "last_layer full": ("full", "last_layer"),
}
TOO_LARGE = {("784-100-10", "full")}
STDDEV, DRAWS = 0.5, 100


class EpochSeconds(keras.callbacks.Callback):
    """Seconds of each epoch."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)


def digits(name: str, seed: int) -> list[np.ndarray]:
    """Images and labels to train on, to choose by and to test on."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype("float32") / 16.0
    if name == "784-100-10":
        images = ndimage.zoom(images, (1, 3.5, 3.5), order=1)
    images = images.reshape(len(images), -1)
    x, x_test, y, y_test = train_test_split(images, labels, test_size=0.2, random_state=seed)
    x, x_choose, y, y_choose = train_test_split(x, y, test_size=0.25, random_state=seed)
    return [x, y, x_choose, y_choose, x_test, y_test]


def trained(
    hidden: int, x: np.ndarray, y: np.ndarray, epochs: int, seed: int
) -> tuple[keras.Model, list[float]]:
    """A trained network, and the seconds of its epochs."""
    keras.utils.set_random_seed(seed)
    prior = keras.regularizers.L2(1.0 / (2.0 * len(x) * STDDEV**2))
    both = {"kernel_regularizer": prior, "bias_regularizer": prior}
    model = keras.Sequential(
        [
            keras.Input((x.shape[1],)),
            keras.layers.Dense(hidden, activation="relu", **both),
            keras.layers.Dense(10, **both),
            layers.Categorical(10),
        ]
    )
    steps = epochs * -(-len(x) // 32)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.Adam(rate), loss=lambda y, rv_y: -rv_y.log_prob(y))
    watch = EpochSeconds()
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0, callbacks=[watch])
    return model, watch.seconds


def timed(function):
    """The result of a function and its seconds."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def evaluate(model: keras.Model, data: Sequence[np.ndarray], fit: str) -> dict[str, float]:
    """NLL of one approximation, and its seconds."""
    x, y, x_choose, y_choose, x_test, y_test = data
    structure, subset = FITS[fit]

    def approximation():
        return LaplaceApproximation(
            model, x, y, STDDEV, hessian_structure=structure, subset_of_weights=subset
        )

    def nll(images, labels):
        prediction = laplace.predict_distribution(images, num_samples=DRAWS, seed=0)
        return -float(np.mean(prediction.log_prob(labels)))

    _, first = timed(approximation)
    laplace, seconds = timed(approximation)
    given, predicting = timed(lambda: nll(x_test, y_test))
    stddev, choosing = timed(
        lambda: laplace.optimize_prior_stddev(
            validation_data=(x_choose, y_choose), num_samples=DRAWS, seed=0
        )
    )
    chosen = nll(x_test, y_test)
    _, search = timed(laplace.optimize_prior_stddev)
    return {
        "nll": given,
        "by evidence": nll(x_test, y_test),
        "chosen": chosen,
        "stddev": stddev,
        "choosing": choosing,
        "first": first,
        "seconds": seconds,
        "search": search,
        "predicting": predicting,
    }


def main(
    networks: Sequence[str] = tuple(NETWORKS),
    fits: Sequence[str] = tuple(FITS),
    seeds: int = 3,
    epochs: int = 60,
    out: str | os.PathLike | None = None,
) -> dict:
    """Prints the table and writes `laplace.json` to `out`.

    Args:
        networks: Names of the networks.
        fits: Names of the approximations.
        seeds: Integer, how many splits and networks.
        epochs: Integer, epochs of training.
        out: Folder for the JSON file; none is written without.

    Returns:
        Dict from networks to approximations to measurements, medians of seconds and means of all
        else.
    """
    machine, versions = conditions()
    print(f"{machine}, {versions}; {seeds} seeds, {epochs} epochs")
    results: dict[str, dict] = {}
    for name in networks:
        rows: dict[str, list] = {}
        for seed in range(seeds):
            data = digits(name, seed)
            model, epoch_seconds = trained(NETWORKS[name], *data[:2], epochs, seed)
            nll = -float(np.mean(model(data[4]).log_prob(data[5])))
            later = float(np.median(epoch_seconds[1:] or epoch_seconds))
            plain = {"nll": nll, "first": epoch_seconds[0], "seconds": later}
            rows.setdefault("plain", []).append(plain)
            for fit in fits:
                if (name, fit) not in TOO_LARGE:
                    rows.setdefault(fit, []).append(evaluate(model, data, fit))
        results[name] = {
            fit: {
                key: float(np.mean(values) if key in _MEANS else np.median(values))
                for key in found[0]
                for values in [[row[key] for row in found]]
            }
            for fit, found in rows.items()
        }
        _show(name, results[name])
    write_json(out, "laplace.json", {"machine": machine, "versions": versions, "results": results})
    return results


_MEANS = ("nll", "by evidence", "chosen", "stddev")


def _show(name, results):
    epoch = results["plain"]["seconds"]
    print(f"\n{name}: {epoch:.3f} s an epoch (the first {results['plain']['first']:.2f} s)")
    titles = ("NLL", "by evidence", "chosen", "stddev", "seconds", "epochs")
    titles += ("evidence s", "choose s", "predict s")
    print(f"{'':16}" + "".join(f"{title:>12}" for title in titles))
    for fit, row in results.items():
        line = f"{fit:16}{row['nll']:12.4f}"
        if fit != "plain":
            seconds = f"{row['seconds']:.3f} ({row['first']:.1f})"
            line += f"{row['by evidence']:12.4f}{row['chosen']:12.4f}{row['stddev']:12.4f}"
            line += f"{seconds:>14}{row['seconds'] / epoch:12.1f}{row['search']:12.2f}"
            line += f"{row['choosing']:12.2f}{row['predicting']:12.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--fits", nargs="+", default=list(FITS), choices=list(FITS))
    parser.add_argument("--seeds", type=int, default=3, help="how many splits and networks")
    parser.add_argument("--epochs", type=int, default=60, help="epochs of training")
    parser.add_argument("--out", default=None, help="folder for a JSON file")
    main(**vars(parser.parse_args()))
