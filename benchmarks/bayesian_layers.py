"""What Bayesian weights cost: training steps beside plain layers, and predictions beside a loop.

Each model is one layer, trained in stock `fit` by Adam on the mean squared error, once plain and
once with each kind of Bayesian weights. They train in turn, an epoch each, and the medians over
many epochs are compared.

    python benchmarks/bayesian_layers.py
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import command_line, conditions, write_json

import keras_extras
from keras_extras import layers

DENSE = {
    "Dense": lambda: keras.layers.Dense(512),
    "DenseReparameterization": lambda: layers.DenseReparameterization(512, kl_weight="auto"),
    "DenseLocalReparameterization": lambda: layers.DenseLocalReparameterization(
        512, kl_weight="auto"
    ),
    "DenseFlipout": lambda: layers.DenseFlipout(512, kl_weight="auto"),
    "Variational(Dense)": lambda: layers.Variational(keras.layers.Dense(512)),
}
RECURRENT = {
    "LSTM": lambda: keras.layers.LSTM(64, return_sequences=True),
    "Variational(LSTM)": lambda: layers.Variational(keras.layers.LSTM(64, return_sequences=True)),
}
CONVOLUTION = {
    "Conv2D": lambda: keras.layers.Conv2D(64, 3, padding="same"),
    "Convolution2DReparameterization": lambda: layers.Convolution2DReparameterization(
        64, 3, padding="same", kl_weight="auto"
    ),
    "Convolution2DFlipout": lambda: layers.Convolution2DFlipout(
        64, 3, padding="same", kl_weight="auto"
    ),
}


def compare_steps(kinds: dict, shape: tuple[int, ...], batch: int, steps: int, epochs: int) -> dict:
    """Medians of the time of a step in milliseconds, and ratios to the first kind, the plain."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(steps * batch, *shape)).astype("float32")
    models = {}
    for name, make in kinds.items():
        keras.utils.set_random_seed(1)
        models[name] = keras.Sequential([keras.Input(shape), make()])
        models[name].compile("adam", "mse")
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for epoch in range(epochs + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.fit(x, x, batch_size=batch, shuffle=False, verbose=0)
            if epoch:  # The first compiles.
                seconds[name].append((time.perf_counter() - start) / steps)
    plain = seconds[next(iter(kinds))]
    return {
        name: {
            "ms": 1e3 * statistics.median(times),
            "ratio": statistics.median(a / b for a, b in zip(times, plain, strict=True)),
        }
        for name, times in seconds.items()
    }


def compare_predictions(num_samples: int, rows: int) -> dict[str, float]:
    """Seconds of `predict_distribution`, and of as many calls of `predict`."""
    model = keras.Sequential(
        [
            keras.Input((16,)),
            layers.DenseFlipout(128, activation="relu"),
            layers.DenseFlipout(2),
            layers.IndependentNormal(1, convert_to_tensor_fn="mean"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(rows, 16)).astype("float32")
    model.predict(x, verbose=0)
    keras_extras.predict_distribution(model, x, num_samples=num_samples)
    start = time.perf_counter()
    for _ in range(num_samples):
        model.predict(x, verbose=0)
    middle = time.perf_counter()
    keras_extras.predict_distribution(model, x, num_samples=num_samples).mean()
    end = time.perf_counter()
    return {
        "predict, s": middle - start,
        "predict_distribution, s": end - middle,
        "ratio": (middle - start) / (end - middle),
    }


def main(epochs: int = 15, steps: int = 100, out: str | os.PathLike | None = None) -> dict:
    """Compares all, prints tables and writes `bayesian_layers.json` to `out`.

    Args:
        epochs: Integer, epochs to time.
        steps: Integer, training steps of an epoch.
        out: Folder for the JSON file; none is written without.

    Returns:
        Dict with the measurements of steps and predictions.
    """
    machine, versions = conditions()
    print(f"{machine}, {versions}; medians of {epochs} epochs of {steps} steps")
    results: dict = {
        "dense, batch 256, 512 to 512": compare_steps(DENSE, (512,), 256, steps, epochs),
        "convolution, batch 16, 64 to 64 on 32 x 32": compare_steps(
            CONVOLUTION, (32, 32, 64), 16, max(1, steps // 20), epochs
        ),
        "recurrent, batch 64, 64 to 64, 20 time steps": compare_steps(
            RECURRENT, (20, 64), 64, max(1, steps // 5), epochs
        ),
    }
    for title, table in results.items():
        print(title)
        for name, result in table.items():
            print(f"  {name:34}{result['ms']:8.2f} ms{result['ratio']:8.2f}")
    results["predictions, 100 draws"] = predictions = compare_predictions(100, 1000)
    print("predictions, 100 draws of 1,000 rows")
    for name, value in predictions.items():
        print(f"  {name:34}{value:8.2f}")
    write_json(
        out, "bayesian_layers.json", {"machine": machine, "versions": versions, "results": results}
    )
    return results


if __name__ == "__main__":
    parser = command_line(__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15, help="epochs to time")
    parser.add_argument("--steps", type=int, default=100, help="training steps of an epoch")
    parser.add_argument("--out", default=None, help="folder for a JSON file")
    main(**vars(parser.parse_args()))
