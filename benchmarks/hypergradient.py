"""What the gradient of a whole training costs, beside the training alone.

Digits, 64-50-10, batches of 100, SGD with momentum; the hyperparameters are the learning rate of
each step and the momentum.

- `cost`: validation loss and hypergradient of 1,000 steps over the training alone, both compiled
  with XLA, in turns in one process, for each memory mode.
- `checkpoints`, `reversal`, `reversal_short`: peak memory of a process that computes one
  hypergradient, of 10,000 steps (of 1,000 the last).
- `rows`: peak memory of a process that computes the hypergradient of a weight for each of 50,000
  rows over 1,000 steps with batches of 100, by checkpoints.
- `meta`: 30 meta-steps of `fit` on 200 steps: seconds, with and without compilation, and the
  validation loss before and after.

    python benchmarks/hypergradient.py
"""

import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import arguments_of_parts, run_parts
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_extras import unrolled

MEMORIES = ("all", "checkpoints", "reversal")


def load_data() -> dict:
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype("float32")
    x, x_val, y, y_val = train_test_split(x, y, test_size=1 / 3, stratify=y, random_state=0)
    return {"x": x, "y": y, "validation_data": (x_val, y_val)}


def make_training(steps: int, memory: str = "all") -> unrolled.UnrolledTraining:
    keras.utils.set_random_seed(0)
    network = [keras.layers.Dense(50, activation="tanh"), keras.layers.Dense(10)]
    return unrolled.UnrolledTraining(
        keras.Sequential([keras.Input((64,)), *network]),
        keras.optimizers.SGD(momentum=0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps,
        {"learning_rate": unrolled.PerStep(0.05), "momentum": 0.5},
        batch_size=100,
        memory=memory,
    )


def seconds(function, **arguments) -> float:
    start = time.perf_counter()
    function(**arguments)
    return time.perf_counter() - start


def cost(steps: int, rounds: int = 15) -> dict[str, float]:
    """Medians of times and of ratios, measured in turns."""
    data = load_data()
    print(f"\n{steps:,} steps, medians of {rounds} rounds\n")
    print(f"{'memory':12} {'training':>10} {'and gradient':>13} {'ratio':>7}")
    ratios = {}
    for memory in MEMORIES:
        training = make_training(steps, memory)
        alone = {"x": data["x"], "y": data["y"]}
        training.run(**alone)
        training.hypergradient(**data)
        times = [
            (seconds(training.run, **alone), seconds(training.hypergradient, **data))
            for _ in range(rounds)
        ]
        first, both = (statistics.median(column) for column in zip(*times))
        ratios[memory] = statistics.median(b / a for a, b in times)
        print(
            f"{memory:12} {1e3 * first:7.0f} ms {1e3 * both:10.0f} ms {ratios[memory]:7.2f}",
            flush=True,
        )
    return ratios


def peak_megabytes(steps: int, memory: str) -> float:
    import resource  # not on Windows

    data = load_data()
    training = make_training(steps, memory)
    training.run(**data)
    scale = 2**20 if sys.platform == "darwin" else 2**10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    loss, _ = training.hypergradient(**data)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    print(
        f"{memory:12} {steps:6,} steps: peak {peak:5.0f} MB, after training alone {before:5.0f} MB"
        f" (validation loss {loss:.3f})",
        flush=True,
    )
    return peak


def checkpoints(steps: int) -> float:
    return peak_megabytes(10 * steps, "checkpoints")


def reversal(steps: int) -> float:
    return peak_megabytes(10 * steps, "reversal")


def reversal_short(steps: int) -> float:
    return peak_megabytes(steps, "reversal")


def rows(steps: int) -> float:
    import resource  # not on Windows

    generator = np.random.default_rng(0)
    x = generator.normal(size=(50_000, 64)).astype("float32")
    y = generator.integers(10, size=50_000)
    keras.utils.set_random_seed(0)
    network = [keras.layers.Dense(50, activation="tanh"), keras.layers.Dense(10)]
    training = unrolled.UnrolledTraining(
        keras.Sequential([keras.Input((64,)), *network]),
        keras.optimizers.SGD(0.05, momentum=0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps,
        {"sample_weight": np.ones(50_000)},
        batch_size=100,
        memory="checkpoints",
    )
    start = time.perf_counter()
    _, gradients = training.hypergradient(x, y, validation_data=(x[:1000], y[:1000]))
    scale = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    print(
        f"50,000 row weights, {steps:,} steps: peak {peak:5.0f} MB, "
        f"{time.perf_counter() - start:.1f} s with compilation, "
        f"{np.count_nonzero(gradients['sample_weight']):,} weights with a gradient",
        flush=True,
    )
    return peak


def meta(steps: int) -> dict[str, float]:
    """The first `fit` compiles; the second, of a training that is compiled, does not."""
    data, training = load_data(), make_training(steps // 5)
    meta_steps = 30

    def fit():
        optimizer = keras.optimizers.Adam(0.1)
        fitted = training.fit(**data, meta_optimizer=optimizer, meta_steps=meta_steps, verbose=0)
        losses.append(fitted.history["val_loss"])

    losses = []
    first, second = seconds(fit), seconds(fit)
    before, after = losses[0][0], losses[0][-1]
    print(
        f"\n{meta_steps} meta-steps on {steps // 5} learning rates and the momentum: {first:.1f} s,"
        f" compiled before {second:.1f} s\n"
        f"validation loss {before:.3f} -> {after:.3f}, {after / before:.2f} of it"
    )
    return {"seconds": first, "ratio": after / before}


PARTS = {
    "cost": cost,
    "checkpoints": checkpoints,
    "reversal_short": reversal_short,
    "reversal": reversal,
    "rows": rows,
    "meta": meta,
}


def main(parts: str = ",".join(PARTS), steps: int = 1000) -> None:
    run_parts(__file__, PARTS, parts, steps)


if __name__ == "__main__":
    main(**arguments_of_parts(__doc__, PARTS, 1000))
