"""Which classifiers notice inputs unlike their training data: areas under the ROC curve.

The handwritten digits of scikit-learn, 8 x 8 pixels. A third of them is held out; the unlike ones
are these, rotated by 90 degrees, and drawings of random strokes. The score is the epistemic entropy
of `predict_distribution`, and beside it the whole predictive entropy. All methods share one
residual network and one training. `one network` is that network alone, whose seconds the others
are to be compared with; it has no epistemic entropy.
"""

import os
import time
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import command_line, conditions, write_json
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import keras_extras
from keras_extras import constraints, layers

UNITS, BLOCKS, MEMBERS, CLASSES = 64, 2, 5, 10
TRAINING_ROWS = 1198


def residual(
    hidden: Callable, last: Callable, bound: float | None = None
) -> Callable[[], keras.Model]:
    """A function that returns a network of residual blocks.

    Args:
        hidden: Function from a number of units and keyword arguments to a layer of a block.
        last: Function without arguments that returns the layers at the end.
        bound: The spectral norm of kernels; `None` for none.
    """

    def make():
        given = {} if bound is None else {"kernel_constraint": constraints.SpectralNorm(bound)}
        inputs = keras.Input((64,))
        x = keras.layers.Dense(UNITS, **given)(inputs)
        for _ in range(BLOCKS):
            x = keras.layers.add([x, hidden(UNITS, activation="relu", **given)(x)])
        for layer in last():
            x = layer(x)
        return keras.Model(inputs, x)

    return make


def softmax():
    return [keras.layers.Dense(CLASSES, "softmax")]


def dropout(units, **arguments):
    return keras.Sequential([layers.MCDropout(0.1), keras.layers.Dense(units, **arguments)])


def flipout(units, **arguments):
    return layers.DenseFlipout(units, kl_weight="auto", posterior="mean_field", **arguments)


def gaussian_process(num_features):
    return lambda: [
        layers.RandomFeatureGaussianProcess(CLASSES, num_features, length_scale=LENGTH_SCALE),
        keras.layers.Softmax(),
    ]


LENGTH_SCALE = 2.0
# Methods: a function that makes a network, and how many are trained. A line adds one.
METHODS = {
    "one network": (residual(keras.layers.Dense, softmax), 1),
    "MC dropout": (residual(dropout, softmax), 1),
    "DenseFlipout": (residual(flipout, softmax), 1),
    **{
        f"SNGP, {count} features": (
            residual(keras.layers.Dense, gaussian_process(count), bound=0.95),
            1,
        )
        for count in (128, 256, 1024)
    },
    f"ensemble of {MEMBERS}": (residual(keras.layers.Dense, softmax), MEMBERS),
}


class Data(NamedTuple):
    """Rows to train on with their labels, rows held out with theirs, and sets of unlike rows."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    unlike: dict[str, np.ndarray]


def load(seed: int) -> Data:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = (x[order] / 16).astype("float32"), y[order]
    x_test = x[TRAINING_ROWS:]
    rotated = np.rot90(x_test.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64)
    unlike = {"rotated": rotated, "strokes": strokes(len(x_test), seed)}
    return Data(x[:TRAINING_ROWS], y[:TRAINING_ROWS], x_test, y[TRAINING_ROWS:], unlike)


def strokes(count: int, seed: int) -> np.ndarray:
    """Images of three straight strokes between random points, as thick as those of digits."""
    generator = np.random.default_rng(seed)
    places = np.indices((8, 8)).reshape(2, 64).T
    start, end = generator.uniform(0.5, 6.5, size=(2, count, 3, 1, 2))
    along = end - start
    length = np.sum(along**2, axis=-1)
    share = np.clip(np.sum((places - start) * along, axis=-1) / length, 0.0, 1.0)
    distance = np.linalg.norm(places - start - share[..., None] * along, axis=-1).min(axis=1)
    return np.clip(1.5 - distance, 0.0, 1.0).astype("float32")


def evaluate(method: str, data: Data, epochs: int, seed: int) -> dict[str, float]:
    """Seconds of training, accuracy, and the areas of one method."""
    make, members = METHODS[method]
    keras.utils.set_random_seed(seed)
    models = []
    start = time.perf_counter()
    for _ in range(members):
        model = make()
        model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
        model.fit(data.x, data.y, epochs=epochs, verbose=0)
        models.append(model)
    result = {"seconds": time.perf_counter() - start}

    def predict(x):
        return keras_extras.predict_distribution(models, x, num_samples=100, seed=seed)

    known = predict(data.x_test)
    labels = np.argmax(known.class_probabilities(), axis=-1)
    result["accuracy"] = float(np.mean(labels == data.y_test))
    for name, x in data.unlike.items():
        unknown = predict(x)
        is_unlike = np.repeat([0, 1], [len(data.x_test), len(x)])
        for score in ("epistemic_entropy", "predictive_entropy"):
            values = [np.asarray(getattr(one, score)()) for one in (known, unknown)]
            area = roc_auc_score(is_unlike, np.concatenate(values))
            result[f"{name}, {score.split('_')[0]}"] = float(area)
    return result


def main(epochs: int = 40, seeds: int = 1, out: str | None = None) -> dict[str, dict[str, float]]:
    """Prints the table of means over seeds; returns it."""
    machine, versions = conditions()
    print(f"{machine}, {versions}; {epochs} epochs, {seeds} seeds")
    results: dict[str, dict[str, float]] = {}
    for method in METHODS:
        runs = [evaluate(method, load(seed), epochs, seed) for seed in range(seeds)]
        results[method] = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
        if len(results) == 1:
            print("| method | " + " | ".join(runs[0]) + " |")
            print("|---" * (len(runs[0]) + 1) + "|")
        cells = " | ".join(f"{value:.3f}" for value in results[method].values())
        print(f"| {method} | {cells} |", flush=True)
    write_json(out, "out_of_distribution.json", {"machine": machine, "results": results})
    return results


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--epochs", type=int, default=40, help="of each training")
    parser.add_argument("--seeds", type=int, default=1, help="of data and weights")
    parser.add_argument("--out", default=None, help="folder for a JSON file")
    main(**vars(parser.parse_args()))
