"""How the cost of each part grows: seconds at five sizes, and the straight line that explains them.

For each part one size grows and all else stays. The table shows the time of each size over that of
the first, what `a + b * size` predicts, and the exponent between the last two sizes: 1 where the
cost is proportional to the size, 0 where a fixed cost hides it.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --parts population,weights
"""

import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import command_line

from keras_extras import inference, unrolled
from keras_extras.optimizers import CMAES, LBFGS, SPSA, MonteCarloOptimizer


def dense_model(inputs: int, hidden: int, optimizer=None) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(hidden, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )
    if optimizer is not None:
        model.compile(optimizer, "mse")
    return model


def rows(number: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(number, inputs)).astype("float32")
    return x, np.sin(x.sum(axis=1, keepdims=True))


def steps_of_fit(optimizer, batch: int = 256, inputs: int = 32, hidden: int = 64) -> Callable:
    """A function that takes five steps on one batch, compiled already."""
    model = dense_model(inputs, hidden, optimizer)
    x, y = rows(batch, inputs)

    def steps():
        for _ in range(5):
            model.train_on_batch(x, y)

    steps()
    return steps


def hypergradients(steps: int, memory: str) -> Callable:
    x, y = rows(300, 16)
    training = unrolled.UnrolledTraining(
        dense_model(16, 32),
        keras.optimizers.SGD(momentum=0.5),
        "mse",
        steps,
        {"learning_rate": unrolled.PerStep(0.01)},
        batch_size=50,
        memory=memory,
    )
    data = {"x": x[:200], "y": y[:200], "validation_data": (x[200:], y[200:])}
    training.hypergradient(**data)
    return lambda: training.hypergradient(**data)


def chains(number: int) -> Callable:
    from tensorflow_probability import distributions as tfd

    x, y = rows(200, 4)
    model = dense_model(4, 8)

    def normal(outputs):
        return tfd.Independent(tfd.Normal(outputs, 0.3), 1)

    def sample():
        return inference.sample_posterior(
            model,
            x,
            y,
            likelihood=normal,
            kernel="hmc",
            num_chains=number,
            num_results=200,
            num_burnin_steps=50,
            seed=1,
            verbose=0,
        )

    sample()
    return sample


# What grows, and a function of the size that is called once to compile and then timed.
PARTS = {
    "population": ((64, 128, 256, 512, 1024), lambda n: steps_of_fit(MonteCarloOptimizer(0.01, n))),
    "batch": (
        (64, 128, 256, 512, 1024),
        lambda n: steps_of_fit(MonteCarloOptimizer(0.01, 128), batch=n),
    ),
    "weights": (
        (32, 64, 128, 256, 512),
        lambda n: steps_of_fit(MonteCarloOptimizer(0.01, 64), hidden=n),
    ),
    "SPSA weights": (
        (256, 512, 1024, 2048, 4096),
        lambda n: steps_of_fit(SPSA(), inputs=256, hidden=n),
    ),
    "CMAES weights": (
        (4, 8, 16, 32, 48),
        lambda n: steps_of_fit(CMAES(generations_per_batch=1), inputs=8, hidden=n),
    ),
    "LBFGS rows": (
        (1000, 2000, 4000, 8000, 16000),
        lambda n: steps_of_fit(LBFGS(tolerance=1e-12, iterations_per_batch=5), batch=n),
    ),
    "hypergradient steps": ((100, 200, 400, 800, 1600), lambda n: hypergradients(n, "all")),
    "checkpoints steps": ((100, 200, 400, 800, 1600), lambda n: hypergradients(n, "checkpoints")),
    "chains": ((1, 2, 4, 8, 16), chains),
}


def median_seconds(function: Callable, repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def straight_line(sizes: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """What `a + b * size` with `a, b >= 0` predicts, by least squares of relative errors."""
    from scipy.optimize import nnls

    design = np.stack([np.ones(len(sizes)), sizes], axis=1) / seconds[:, None]
    coefficients, _ = nnls(design, np.ones(len(sizes)))
    return coefficients[0] + coefficients[1] * sizes


def main(parts: str = ",".join(PARTS), repeats: int = 5, count: int = 5) -> dict[str, np.ndarray]:
    """Prints a table for each part; returns the seconds."""
    results = {}
    names = [name for name in PARTS if any(name.startswith(part) for part in parts.split(","))]
    for name in names:
        sizes, prepare = PARTS[name]
        sizes = np.array(sizes[:count])
        seconds = []
        for size in sizes:
            keras.utils.clear_session()
            seconds.append(median_seconds(prepare(int(size)), repeats))
        results[name] = seconds = np.array(seconds)
        line = straight_line(sizes, seconds)
        exponent = np.log(seconds[-1] / seconds[-2]) / np.log(sizes[-1] / sizes[-2])
        print(f"\n{name}: exponent {exponent:.2f}")
        print(f"{'size':>8} {'ms':>9} {'times':>7} {'line':>7}")
        for size, took, predicted in zip(sizes, seconds, line):
            ratios = took / seconds[0], predicted / seconds[0]
            print(f"{size:8,} {1e3 * took:9.1f} {ratios[0]:7.2f} {ratios[1]:7.2f}", flush=True)
    return results


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help="beginnings of names, with commas")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each size")
    parser.add_argument("--count", type=int, default=5, help="how many of the sizes")
    main(**vars(parser.parse_args()))
