"""What a distribution head costs: a training step with one, and with its loss written by hand.

The same network (two hidden layers of 256 units) is trained in stock `fit` on batches of 256 rows,
once with `IndependentNormal` and `NegativeLogLikelihood`, once with two outputs a row and the
log-likelihood of a normal distribution in a `keras.losses.Loss`. Both train in turn, an epoch
each, and the medians over many epochs are compared, in TensorFlow's graph and under XLA, which
is how JAX trains.

    python benchmarks/heads.py
    KERAS_BACKEND=jax python benchmarks/heads.py
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import command_line, conditions, write_json
from keras import ops

import keras_extras

BATCH = 256
WIDTH = 256


class HandWrittenLoss(keras.losses.Loss):
    """The negative log-likelihood of a normal distribution, from location and raw scale."""

    def call(self, y_true, y_pred):
        location, raw_scale = ops.split(y_pred, 2, axis=-1)
        scale = ops.softplus(raw_scale)
        z = (y_true - location) / scale
        density = 0.5 * ops.square(z) + ops.log(scale) + 0.5 * np.log(2 * np.pi)
        return ops.sum(density, axis=-1)


def make_model(with_head: bool, jit_compile: bool) -> keras.Model:
    """The network, compiled; both kinds start from the same weights."""
    keras.utils.set_random_seed(1)
    params = keras_extras.layers.IndependentNormal.params_size(1)
    layers = [
        keras.Input((WIDTH,)),
        keras.layers.Dense(WIDTH, activation="relu"),
        keras.layers.Dense(WIDTH, activation="relu"),
        keras.layers.Dense(params),
    ]
    if with_head:
        layers.append(keras_extras.layers.IndependentNormal(1))
        loss = keras_extras.losses.NegativeLogLikelihood()
    else:
        loss = HandWrittenLoss()
    model = keras.Sequential(layers)
    model.compile("adam", loss, jit_compile=jit_compile)
    return model


def compare(jit_compile: bool, epochs: int, steps: int) -> dict[str, float]:
    """Medians of the time of a step, in microseconds, and their ratio."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(steps * BATCH, WIDTH)).astype("float32")
    y = x[:, :1] + generator.normal(size=(len(x), 1)).astype("float32")
    models = {name: make_model(name == "head", jit_compile) for name in ("head", "by hand")}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    losses = {}
    for epoch in range(epochs + 1):
        for name in sorted(models, reverse=epoch % 2 == 0):
            start = time.perf_counter()
            history = models[name].fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
            if epoch == 0:  # It compiles, and shows that both do the same work.
                losses[name] = history.history["loss"]
            else:
                seconds[name].append((time.perf_counter() - start) / steps)
    assert np.allclose(losses["head"], losses["by hand"], rtol=1e-3), losses
    ratios = [one / other for one, other in zip(seconds["head"], seconds["by hand"], strict=True)]
    medians = {f"{name}, us": 1e6 * statistics.median(seconds[name]) for name in seconds}
    return {**medians, "ratio": statistics.median(ratios)}


def main(epochs: int = 31, steps: int = 200, out: str | os.PathLike | None = None) -> dict:
    """Compares the steps, prints a table and writes `heads.json` to `out`.

    Args:
        epochs: Integer, pairs of epochs to time.
        steps: Integer, training steps of an epoch.
        out: Folder for the JSON file; none is written without.

    Returns:
        Dict from `"graph"` (of TensorFlow) and `"XLA"` to the medians and the ratio.
    """
    machine, versions = conditions()
    print(f"{machine}, {versions}; batch {BATCH}, width {WIDTH}, {epochs} pairs of {steps} steps")
    modes = ("graph", "XLA") if keras.backend.backend() == "tensorflow" else ("XLA",)
    results = {mode: compare(mode == "XLA", epochs=epochs, steps=steps) for mode in modes}
    print(f"{'a training step':18}{'head':>12}{'by hand':>12}{'ratio':>9}")
    for mode, result in results.items():
        head, by_hand, ratio = result.values()
        print(f"{mode:18}{head:9.0f} us{by_hand:9.0f} us{ratio:9.3f}")
    write_json(out, "heads.json", {"machine": machine, "versions": versions, "results": results})
    return results


if __name__ == "__main__":
    parser = command_line(__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=31, help="pairs of epochs to time")
    parser.add_argument("--steps", type=int, default=200, help="training steps of an epoch")
    parser.add_argument("--out", default=None, help="folder for a JSON file")
    main(**vars(parser.parse_args()))
