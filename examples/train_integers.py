"""Networks whose weights are integers, trained by a search, beside straight-through estimation.

Digits, a ReLU network 64-32-10. It is trained in floats, and its kernels are rounded to 4 bits by
`model.quantize`, and to -1, 0 and 1 by a quantizer of that range. `QuantizedSearch` then moves the
integers themselves, with Keras' own quantized layers in the forward pass. Beside it the ternary
kernels are trained by straight-through estimation for the same seconds: float weights are rounded
in the forward pass, and the gradient passes by the rounding, which takes four bytes a weight.

    python examples/train_integers.py           # two minutes
    python examples/train_integers.py --fast    # a smoke test
"""

import argparse
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import ops
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_extras import optimizers, visualization

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class StraightThroughDense(keras.layers.Dense):
    """A `Dense` layer whose kernel is rounded to -1, 0 and 1, and learns as if it were not."""

    def __init__(self, *args, scale: np.ndarray, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = scale

    def call(self, inputs):
        rounded = ops.clip(ops.round(self.kernel), -1.0, 1.0)
        kernel = self.kernel + ops.stop_gradient(rounded - self.kernel)
        return self.activation(ops.matmul(inputs, kernel) / self.scale + self.bias)


class StopAfter(keras.callbacks.Callback):
    """Ends training after so many seconds."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def on_train_begin(self, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if time.perf_counter() - self.start > self.seconds:
            self.model.stop_training = True


def float_model(x: np.ndarray, y: np.ndarray, epochs: int) -> keras.Model:
    hidden, last = keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10)
    model = keras.Sequential([keras.Input((64,)), hidden, last])
    model.compile(keras.optimizers.Adam(3e-3), LOSS)
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return model


def quantized(model: keras.Model, kind: str) -> keras.Model:
    """A copy with kernels of 4 bits, or of -1, 0 and 1."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Layer InputLayer does not have a `quantize` method")
        if kind == "int4":
            copy.quantize("int4")
        else:
            ternary = keras.quantizers.AbsMaxQuantizer(axis=0, value_range=(-1, 1))
            copy.quantize(
                config=keras.quantizers.Int8QuantizationConfig(
                    weight_quantizer=ternary, activation_quantizer=None
                )
            )
    return copy


def straight_through(model: keras.Model, x, y, seconds: float) -> keras.Model:
    """The same ternary network, whose kernels are trained by straight-through estimation."""
    layers = [
        StraightThroughDense(old.units, old.activation, scale=np.array(old.kernel_scale))
        for old in model.layers
    ]
    copy = keras.Sequential([keras.Input((64,)), *layers])
    for new, old in zip(layers, model.layers):
        new.kernel.assign(ops.cast(old.kernel, "float32"))
        new.bias.assign(old.bias)
    copy.compile(keras.optimizers.Adam(0.01), LOSS)
    copy.fit(x, y, batch_size=32, epochs=10_000, callbacks=[StopAfter(seconds)], verbose=0)
    return copy


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(np.argmax(model.predict(x, verbose=0), axis=1) == y))


def run(seed: int, epochs: int, search_epochs: int) -> dict[str, float]:
    """Test accuracies of one split."""
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        (x / 16.0).astype("float32"), y, test_size=0.2, stratify=y, random_state=seed
    )
    keras.utils.set_random_seed(seed)
    model = float_model(x, y, epochs)
    scores = {"float": accuracy(model, x_test, y_test)}
    for kind in ("int4", "ternary"):
        integers = quantized(model, kind)
        scores[f"{kind}, rounded"] = accuracy(integers, x_test, y_test)
        rounded = integers.get_weights()
        start = time.perf_counter()
        integers.compile(optimizers.QuantizedSearch(seed=seed), LOSS)
        integers.fit(x, y, batch_size=128, epochs=search_epochs, verbose=0)
        seconds = time.perf_counter() - start
        scores[f"{kind}, trained"] = accuracy(integers, x_test, y_test)
        if kind == "ternary":
            integers.set_weights(rounded)
            estimated = straight_through(integers, x, y, seconds)
            scores["ternary, straight-through"] = accuracy(estimated, x_test, y_test)
    listed = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    print(f"seed {seed}: {listed}", flush=True)
    return scores


def plot(results: list[dict[str, float]]) -> Figure:
    """Medians and ranges of the test accuracies."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    ax = figure.subplots()
    names = list(results[0])
    values = np.array([[scores[name] for name in names] for scores in results])
    middle = np.median(values, axis=0)
    reach = np.abs(np.stack([values.min(0), values.max(0)]) - middle)
    ax.errorbar(middle, names, xerr=reach, fmt="o", capsize=3)
    ax.invert_yaxis()
    ax.set(xlabel="test accuracy (median and range)")
    return figure


def main(out: str | Path = "outputs/train_integers", seeds: int = 3, fast: bool = False) -> dict:
    """Runs the example and returns the medians."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    epochs, search_epochs, seeds = (5, 2, 1) if fast else (60, 200, seeds)
    results = [run(seed, epochs, search_epochs) for seed in range(seeds)]
    medians = {name: float(np.median([r[name] for r in results])) for name in results[0]}
    print(f"\nmedians of {seeds} splits")
    for name, score in medians.items():
        print(f"{name:26} {score:.3f}")
    visualization.save_figure(plot(results), out / "accuracy.png")
    return medians


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="outputs/train_integers", help="folder of the figure")
    parser.add_argument("--seeds", type=int, default=3, help="number of splits")
    parser.add_argument("--fast", action="store_true", help="few epochs, one split")
    main(**vars(parser.parse_args()))
