"""What sampling costs on wide layers: memory and time of a step, and candidates a second.

- `pair`: simultaneous perturbation (`SPSA`) of a network of 9.9 million weights, on
  batches of 2,048, with random signs and, as `low_rank_pair`, with signs of rank one. Its peak
  memory and the median time of its steps stand beside those of `model.predict` on the same
  batches, in the same process and in turns.
- `noise`: candidates a second in `fit`, of a network 784-256-128-10 on batches of 256, for each
  kind of noise, with a population of 256.
- `population`: peak memory of a population of 4,096 on a network of a million weights.

    python benchmarks/large_models.py
"""

import os
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from common import arguments_of_parts, run_parts
from common.step_times import StepTimes

from keras_extras.optimizers import SPSA, MonteCarloOptimizer

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
SIZES = {
    "pair": (1024, 2048, 2048, 1750, 10),
    "noise": (784, 256, 128, 10),
    "population": (784, 1024, 200, 10),
}
NOISES = ("normal", "sign", "orthogonal", "low_rank")


def make_model(widths: tuple[int, ...]) -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(width, activation="relu") for width in widths[1:-1]]
    return keras.Sequential([keras.Input(widths[:1]), *hidden, keras.layers.Dense(widths[-1])])


def batches(rows: int, features: int) -> tf.data.Dataset:
    """The same batch without end."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, features)).astype("float32")
    return tf.data.Dataset.from_tensors((x, rng.integers(0, 10, rows))).repeat()


def seconds(function, **arguments) -> float:
    """Median seconds of the steps that `model.fit` or `model.predict` takes."""
    times = StepTimes()
    function(callbacks=[times], verbose=0, **arguments)
    return statistics.median(times.seconds)


def peak_megabytes() -> float:
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def beside_predict(optimizer, widths, rows, steps, rounds) -> dict[str, float]:
    """Time and peak memory of training by sampling, beside those of `predict`, in turns."""
    model, data = make_model(widths), batches(rows, widths[0])
    inputs = data.map(lambda x, y: x)
    model.compile(optimizer, LOSS)

    def predict():
        return seconds(model.predict, x=inputs, steps=steps)

    def fit():
        return seconds(model.fit, x=data, steps_per_epoch=steps, shuffle=False)

    predict()
    before = peak_megabytes()
    fit()
    after = peak_megabytes()
    timings = [(predict(), fit()) for _ in range(rounds)]
    forward, step = (statistics.median(column) for column in zip(*timings))
    passes = statistics.median(step / forward for forward, step in timings)
    print(
        f"{model.count_params():,} weights, batches of {rows:,}\n"
        f"  predict {1e3 * forward:7.0f} ms {before:7.0f} MB\n"
        f"  a step  {1e3 * step:7.0f} ms {after:7.0f} MB: {passes:.2f} forward passes, "
        f"{after / before:.2f} times the memory"
    )
    return {"passes": passes, "memory": after / before}


def pair(steps: int, noise: str = "orthogonal") -> dict[str, float]:
    print(f"\nA pair of candidates, noise={noise!r}:", end=" ", flush=True)
    return beside_predict(SPSA(noise=noise, seed=0), SIZES["pair"], 2048, steps, 7)


def low_rank_pair(steps: int) -> dict[str, float]:
    return pair(steps, "low_rank")


def population(steps: int) -> dict[str, float]:
    print("\nA population of 4,096:", end=" ", flush=True)
    optimizer = MonteCarloOptimizer(population_size=4096, seed=0)
    return beside_predict(optimizer, SIZES["population"], 256, 1, 1)


def noise(steps: int) -> dict[str, float]:
    print("\n784-256-128-10, batches of 256, 256 candidates:\n")
    print(f"{'noise':12} {'candidates / s':>15} {'with XLA':>10}")
    rates = {}
    for kind in NOISES:
        found = []
        for jit_compile in (False, True):
            model, data = make_model(SIZES["noise"]), batches(256, SIZES["noise"][0])
            optimizer = MonteCarloOptimizer(noise=kind, seed=0)
            model.compile(optimizer, LOSS, jit_compile=jit_compile)
            train = {"x": data, "steps_per_epoch": steps, "shuffle": False}
            seconds(model.fit, **train)
            found.append(256 / seconds(model.fit, **train))
        rates[kind] = found
        print(f"{kind:12} {found[0]:15,.0f} {found[1]:10,.0f}", flush=True)
    low_rank, normal = rates["low_rank"], rates["normal"]
    print(
        f"\nlow_rank / normal: {low_rank[0] / normal[0]:.1f}, each as it is faster "
        f"{max(low_rank) / max(normal):.1f}"
    )
    return rates


PARTS = {"pair": pair, "low_rank_pair": low_rank_pair, "noise": noise, "population": population}


def main(parts: str = ",".join(PARTS), steps: int = 10) -> None:
    run_parts(__file__, PARTS, parts, steps)


if __name__ == "__main__":
    main(**arguments_of_parts(__doc__, PARTS, 10))
