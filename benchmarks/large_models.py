"""What sampling costs on wide layers: memory and time of a step, and candidates a second.

- `pair`: simultaneous perturbation (a population of 2) of a network of 9.9 million weights, on
  batches of 2,048. Its peak memory and the time of its step stand beside those of `model.predict`
  on the same batches, in the same process.
- `noise`: candidates a second in `fit`, of a network 784-256-128-10 on batches of 256, for each
  kind of noise, with a population of 256.
- `population`: peak memory of a population of 4,096 on a network of a million weights.

    python benchmarks/large_models.py
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from keras_extras.optimizers import MonteCarloOptimizer

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


def seconds(function, steps: int, repeats: int = 3) -> float:
    """Median seconds for each of `steps` steps that `function` takes, compiled before."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) / steps)
    return statistics.median(times)


def peak_megabytes() -> float:
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def beside_predict(widths, rows, steps, **arguments) -> dict[str, float]:
    """Time and peak memory of training by sampling, and those of `predict` before."""
    model, data = make_model(widths), batches(rows, widths[0])
    inputs = data.map(lambda x, y: x)
    forward = seconds(lambda: model.predict(inputs, steps=steps, verbose=0), steps)
    before = peak_megabytes()
    model.compile(MonteCarloOptimizer(seed=0, **arguments), LOSS)
    step = seconds(
        lambda: model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0), steps, 1
    )
    after = peak_megabytes()
    print(
        f"{model.count_params():,} weights, batches of {rows:,}\n"
        f"  predict {1e3 * forward:7.0f} ms {before:7.0f} MB\n"
        f"  a step  {1e3 * step:7.0f} ms {after:7.0f} MB: {step / forward:.2f} forward passes, "
        f"{after / before:.2f} times the memory"
    )
    return {"passes": step / forward, "memory": after / before}


def pair(steps: int) -> dict[str, float]:
    settings = {"learning_rate": 1e-4, "sigma": 1e-3, "population_size": 2}
    for noise in ("orthogonal", "low_rank"):
        print(f"\nA pair of candidates, noise={noise!r}:", end=" ", flush=True)
        result = beside_predict(SIZES["pair"], 2048, steps, noise=noise, **settings)
    return result


def population(steps: int) -> dict[str, float]:
    print("\nA population of 4,096:", end=" ", flush=True)
    return beside_predict(SIZES["population"], 256, 1, population_size=4096)


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
            train = {"steps_per_epoch": steps, "shuffle": False, "verbose": 0}
            found.append(256 / seconds(lambda m=model, d=data, t=train: m.fit(d, **t), steps))
        rates[kind] = found[0]
        print(f"{kind:12} {found[0]:15,.0f} {found[1]:10,.0f}", flush=True)
    print(f"\nlow_rank / normal: {rates['low_rank'] / rates['normal']:.1f}")
    return rates


PARTS = {"pair": pair, "noise": noise, "population": population}


def main(parts: str = "pair,noise,population", steps: int = 5) -> None:
    """Runs each part in a process of its own, for memory has only one peak in each."""
    names = parts.split(",")
    if len(names) == 1:
        PARTS[names[0]](steps)
        return
    for name in names:
        subprocess.run(
            [sys.executable, __file__, "--parts", name, "--steps", str(steps)], check=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="which, with commas")
    parser.add_argument("--steps", type=int, default=5, help="in each timing")
    main(**vars(parser.parse_args()))
