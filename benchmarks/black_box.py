"""CMAES beside pycma: evaluations to 1e-8 on functions of 10, 20 and 40 variables.

Both have the same start, first standard deviation and population, and their own seeds. The
functions are losses of one weight vector, in `optimizer.minimize`.

    python benchmarks/black_box.py
    pip install "keras-extras[peers]"     # for pycma
"""

import math
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from common import command_line, write_json
from keras import ops

import keras_extras

TARGET = 1e-8


class Problem(NamedTuple):
    """A function of a vector, written for Keras and for NumPy, and where a search starts."""

    function: Callable
    start: float
    sigma: float
    population: int | None = None


def ellipsoid(x, square, total, sin):
    return total(np.logspace(0, 6, x.shape[0]).astype("float32") * square(x))


def rosenbrock(x, square, total, sin):
    return total(100 * square(x[1:] - square(x[:-1])) + square(1 - x[:-1]))


def rastrigin(x, square, total, sin):
    # 10 - 10 cos(2 pi x), without the loss of digits.
    return total(square(x) + 20 * square(sin(np.pi * x)))


PROBLEMS = {
    "sphere": Problem(lambda x, square, total, sin: total(square(x)), 1.0, 0.5),
    "ellipsoid": Problem(ellipsoid, 1.0, 0.5),
    "rosenbrock": Problem(rosenbrock, 0.1, 0.3),
    "rastrigin": Problem(rastrigin, 2.0, 2.0, 400),
}


def keras_extras_cmaes(problem: Problem, size: int, seed: int, most: int) -> float:
    """Evaluations until the best candidate is at the target; infinite if it never is."""
    w = keras.Variable(np.full(size, problem.start, "float32"))
    optimizer = keras_extras.optimizers.CMAES(
        population_size=problem.population,
        sigma=problem.sigma,
        generations_per_batch=1,
        keep="best",
        seed=seed,
    )

    def loss():
        return problem.function(1.0 * w, ops.square, ops.sum, ops.sin)

    @tf.function
    def step():
        optimizer.minimize(loss, [w])
        return loss()

    population = problem.population or 4 + int(3 * math.log(size))
    for evaluations in range(population, most, population):
        if float(step()) < TARGET:
            return evaluations
    return math.inf


def pycma(problem: Problem, size: int, seed: int, most: int) -> float:
    import cma

    options = {"verbose": -9, "seed": seed + 1, "maxfevals": most, "ftarget": TARGET}
    if problem.population:
        options["popsize"] = problem.population
    search = cma.CMAEvolutionStrategy(np.full(size, problem.start), problem.sigma, options)
    while not search.stop():
        candidates = search.ask()
        search.tell(
            candidates, [problem.function(x, np.square, np.sum, np.sin) for x in candidates]
        )
    return search.result.evaluations if search.result.fbest < TARGET else math.inf


def main(
    sizes: tuple[int, ...] = (10, 20, 40),
    functions: str = ",".join(PROBLEMS),
    seeds: int = 5,
    most: int = 300_000,
    out: str | Path | None = None,
) -> dict[str, dict]:
    """Compares both, prints medians and writes `black_box.json` to `out`."""
    results: dict[str, dict] = {}
    print(f"medians of {seeds} seeds, runs that reached {TARGET:g} in brackets")
    print(f"{'function':12}{'d':>4}{'CMAES':>18}{'pycma':>18}{'ratio':>8}")
    for name in functions.split(","):
        for size in sizes:
            ours = [keras_extras_cmaes(PROBLEMS[name], size, k, most) for k in range(seeds)]
            try:
                theirs = [pycma(PROBLEMS[name], size, k, most) for k in range(seeds)]
            except ImportError:
                theirs = []
            texts, medians = [], []
            for counts in (ours, theirs):
                reached = [count for count in counts if count < math.inf]
                medians.append(statistics.median(reached) if reached else math.nan)
                texts.append(f"{medians[-1]:,.0f} ({len(reached)}/{len(counts)})")
            ratio = medians[0] / medians[1]
            print(f"{name:12}{size:4}{texts[0]:>18}{texts[1]:>18}{ratio:8.2f}", flush=True)
            results[f"{name} {size}"] = {"CMAES": ours, "pycma": theirs, "ratio": ratio}
    write_json(out, "black_box.json", results)
    return results


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--functions", default=",".join(PROBLEMS), help="with commas")
    parser.add_argument("--seeds", type=int, default=5, help="how often each is run")
    parser.add_argument("--out", default=None, help="folder for a JSON file")
    main(**vars(parser.parse_args()))
