"""Compares the time of a step of IVON with one of Adam, in stock `fit`.

A perceptron (784-256-256-10) and a small convolutional network, on random images in batches of 128.
Both optimizers train in turn, an epoch each, and the ratio is the median of those of the pairs.
Set `KERAS_BACKEND=jax` for JAX.

    python benchmarks/ivon.py
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import command_line, conditions, write_json

from keras_extras.optimizers import IVON

BATCH = 128


def perceptron() -> list[keras.layers.Layer]:
    hidden = [keras.layers.Dense(256, "relu") for _ in range(2)]
    return [keras.layers.Flatten(), *hidden, keras.layers.Dense(10)]


def convolutions() -> list[keras.layers.Layer]:
    parts: list[keras.layers.Layer] = []
    for filters in (16, 32):
        parts += [keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D()]
    return [*parts, keras.layers.Flatten(), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)]


def compare(make, steps: int, epochs: int) -> dict[str, float]:
    """Milliseconds of a step by Adam and by IVON, medians, and the median ratio of the pairs."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(steps * BATCH, 28, 28, 1)).astype("float32")
    y = generator.integers(10, size=len(x))
    seconds: dict[str, list[float]] = {"Adam": [], "IVON": []}
    models = {}
    for name, optimizer in (("Adam", keras.optimizers.Adam(1e-3)), ("IVON", IVON(0.1, seed=1))):
        keras.utils.set_random_seed(1)
        models[name] = keras.Sequential([keras.Input((28, 28, 1)), *make()])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        models[name].compile(optimizer, loss)
    for epoch in range(epochs + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
            if epoch:  # The first compiles.
                seconds[name].append((time.perf_counter() - start) / steps)
    ratios = [ours / theirs for theirs, ours in zip(*seconds.values())]
    times = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    return {**times, "ratio": statistics.median(ratios)}


def main(steps: int = 50, epochs: int = 21, out: str | None = None) -> dict[str, dict]:
    """Prints a table; returns its rows."""
    machine, versions = conditions()
    print(f"{machine}, Keras on {keras.backend.backend()}\n")
    print(f"{'':14}{'Adam, ms':>10}{'IVON, ms':>10}{'ratio':>8}")
    results = {}
    for make in (perceptron, convolutions):
        row = results[make.__name__] = compare(make, steps, epochs)
        print(f"{make.__name__:14}{row['Adam']:10.2f}{row['IVON']:10.2f}{row['ratio']:8.2f}")
    write_json(out, "ivon.json", {"machine": machine, "versions": versions, "results": results})
    return results


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--steps", type=int, default=50, help="of an epoch")
    parser.add_argument("--epochs", type=int, default=21, help="of each optimizer")
    parser.add_argument("--out", default=None, help="folder for a JSON file")
    main(**vars(parser.parse_args()))
