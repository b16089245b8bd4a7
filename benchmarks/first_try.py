"""First tries: eleven small problems with default arguments, this package and its peers.

Each problem is one batch of all rows. Every method starts from the same weights and has its default
arguments; evosax, which has no default population, has that of MonteCarloOptimizer. Printed is
the loss after some numbers of updates: generations of a population, or steps along a gradient. Of
evosax it is the lower of those of its mean and its best candidate.

    KERAS_BACKEND=jax python benchmarks/first_try.py
    KERAS_BACKEND=jax python benchmarks/first_try.py --problems iris,xor --updates 30,100
    pip install "keras-extras[peers]"          # for evosax, pycma and PyGAD
"""

import functools
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import command_line, conditions, write_json
from common.small_problems import PROBLEMS, Problem

import keras_extras

OURS = "MonteCarloOptimizer"
UPDATES = (30, 100, 1000)
# Matrices of all pairs of weights take minutes above it.
MOST_WEIGHTS = 500
NEGLIGIBLE = 1e-3
NEAR = 1.1


def in_fit(make: Callable, problem: Problem, seed: int, updates: Sequence[int]) -> list[float]:
    """Any optimizer of Keras in stock `fit`, one epoch of one batch for each update."""
    model = problem.model(seed)
    model.compile(make(seed), problem.loss)
    losses, done = [], 0
    for count in updates:
        model.fit(problem.x, problem.y, len(problem.x), epochs=count - done, verbose=0)
        losses.append(model.evaluate(problem.x, problem.y, len(problem.x), verbose=0))
        done = count
    return losses


def flat_loss(problem: Problem, seed: int) -> tuple[Callable, np.ndarray]:
    """Returns the loss as a function of a flat vector, in JAX, and the vector at the start."""
    from jax.flatten_util import ravel_pytree

    if keras.backend.backend() != "jax":
        raise SystemExit("Peers evaluate the model in JAX: set KERAS_BACKEND=jax.")
    model = problem.model(seed)
    start, unravel = ravel_pytree([v.value for v in model.trainable_variables])
    state = [v.value for v in model.non_trainable_variables]

    def loss(vector):
        outputs, _ = model.stateless_call(unravel(vector), state, problem.x)
        return problem.loss(problem.y, outputs)

    return loss, start


def evosax(name: str, problem: Problem, seed: int, updates: Sequence[int]) -> list[float]:
    import jax
    import jax.numpy as jnp
    from evosax.algorithms import algorithms

    loss, start = flat_loss(problem, seed)
    population = keras_extras.optimizers.MonteCarloOptimizer().population_size
    search = algorithms[name](population, start)
    params = search.default_params

    @jax.jit
    def run(key):
        def update(carry, key):
            state, best = carry
            ask, tell = jax.random.split(key)
            candidates, state = search.ask(ask, state, params)
            losses = jax.vmap(loss)(candidates)
            state, _ = search.tell(tell, candidates, losses, state, params)
            best = jnp.minimum(best, jnp.nanmin(losses))
            return (state, best), jnp.fmin(best, loss(search.get_mean(state)))

        begin = (search.init(key, start, params), jnp.inf)
        return jax.lax.scan(update, begin, jax.random.split(key, updates[-1]))[1]

    losses = run(jax.random.key(seed))
    return [float(losses[count - 1]) for count in updates]


def pycma(problem: Problem, seed: int, updates: Sequence[int]) -> list[float]:
    import cma
    import jax

    loss, start = flat_loss(problem, seed)
    losses_of = jax.jit(jax.vmap(loss))
    options = {"verbose": -9, "seed": seed + 1}
    search = cma.CMAEvolutionStrategy(np.asarray(start, "float64"), 0.3, options)
    losses = []
    for _ in range(updates[-1]):
        candidates = search.ask()
        search.tell(candidates, losses_of(np.array(candidates, "float32")).tolist())
        losses.append(search.best.f)
    return [losses[count - 1] for count in updates]


def pygad(problem: Problem, seed: int, updates: Sequence[int]) -> list[float]:
    import jax
    import pygad
    import pygad.kerasga

    loss, _ = flat_loss(problem, seed)
    loss = jax.jit(loss)
    np.random.seed(seed)
    model = problem.model(seed)
    losses = []
    population = pygad.kerasga.KerasGA(model=model, num_solutions=10).population_weights
    pygad.GA(
        num_generations=updates[-1],
        num_parents_mating=5,
        initial_population=population,
        fitness_func=lambda _, weights, __: -float(loss(np.asarray(weights, "float32"))),
        on_generation=lambda search: losses.append(-search.last_generation_fitness.max()),
        random_seed=seed,
        suppress_warnings=True,
    ).run()
    return [float(losses[count - 1]) for count in updates]


def needs_few(run: Callable, problem: Problem, seed: int, updates: Sequence[int]) -> list[float]:
    """Not run for more weights than a full covariance can have."""
    few = problem.model(seed).count_params() <= MOST_WEIGHTS
    return run(problem, seed, updates) if few else [np.nan] * len(updates)


def needs_gradient(
    run: Callable, problem: Problem, seed: int, updates: Sequence[int]
) -> list[float]:
    return run(problem, seed, updates) if problem.is_differentiable else [np.nan] * len(updates)


def _searched_by(name):
    optimizer = getattr(keras_extras.optimizers, name)
    return functools.partial(in_fit, lambda seed: optimizer(seed=seed))


METHODS: dict[str, Callable] = {
    OURS: _searched_by(OURS),
    "CMAES": functools.partial(needs_few, _searched_by("CMAES")),
    "evosax SNES": functools.partial(evosax, "SNES"),
    "evosax PGPE": functools.partial(evosax, "PGPE"),
    "evosax Sep_CMA_ES": functools.partial(evosax, "Sep_CMA_ES"),
    "evosax CMA_ES": functools.partial(needs_few, functools.partial(evosax, "CMA_ES")),
    "evosax Open_ES": functools.partial(evosax, "Open_ES"),
    "pycma": functools.partial(needs_few, pycma),
    "PyGAD": pygad,
    "Adam": functools.partial(
        needs_gradient, functools.partial(in_fit, lambda seed: keras.optimizers.Adam())
    ),
}


def is_near(loss: float, best: float) -> bool:
    """Returns whether a loss is about that of the best, or both are negligible."""
    return loss <= NEAR * best or max(loss, best) < NEGLIGIBLE


def summary(table: dict[str, dict[str, list[float]]], updates: Sequence[int]) -> dict[str, int]:
    """Counts in how many cells MonteCarloOptimizer is near the best, and in how many last."""
    cells = [
        [losses[place] for losses in row.values() if not np.isnan(losses[place])]
        for row in table.values()
        for place in range(len(updates))
    ]
    ours = [row[OURS][place] for row in table.values() for place in range(len(updates))]
    return {
        "cells": len(cells),
        "near the best": sum(is_near(a, min(cell)) for a, cell in zip(ours, cells)),
        "last": sum(a >= max(cell) for a, cell in zip(ours, cells)),
    }


def plot(table: dict, updates: Sequence[int], path: Path) -> None:
    """Draws the losses of all methods, a panel for each problem."""
    import matplotlib.pyplot as plt

    columns = min(4, len(table))
    rows = -(-len(table) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.2 * columns, 2.8 * rows), squeeze=False, layout="constrained"
    )
    for panel in axes.flat[len(table) :]:
        panel.axis("off")
    for panel, (problem, row) in zip(axes.flat, table.items()):
        for method, losses in row.items():
            width = 3 if method == OURS else 1
            panel.plot(updates, np.maximum(losses, 1e-6), "o-", lw=width, ms=3, label=method)
        panel.set(xscale="log", yscale="log", title=problem, xlabel="updates", ylabel="loss")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(
    problems: str = ",".join(PROBLEMS),
    methods: str = ",".join(METHODS),
    updates: str = ",".join(map(str, UPDATES)),
    seeds: int = 3,
    out: str | Path | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Runs the methods, prints medians, and writes `first_try.json` and a figure to `out`."""
    counts = [int(count) for count in updates.split(",")]
    machine, versions = conditions()
    print(machine, versions)
    print(f"loss after {' / '.join(map(str, counts))} updates, medians over seeds: {seeds}")
    table: dict[str, dict[str, list[float]]] = {}
    for name in problems.split(","):
        print(name)
        problem = PROBLEMS[name]()
        for method in methods.split(","):
            runs = [METHODS[method](problem, seed, counts) for seed in range(seeds)]
            medians = [statistics.median(losses) for losses in zip(*runs)]
            table.setdefault(name, {})[method] = medians
            print(f"  {method:22}" + "".join(f"{loss:12.4g}" for loss in medians), flush=True)
    counted = summary(table, counts) if OURS in methods.split(",") else {}
    print(", ".join(f"{name}: {count}" for name, count in counted.items()))
    write_json(out, "first_try.json", {"updates": counts, "losses": table, **counted})
    if out is not None:
        plot(table, counts, Path(out) / "first_try.png")
    return table


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--problems", default=",".join(PROBLEMS), help="with commas")
    parser.add_argument("--methods", default=",".join(METHODS), help="with commas")
    parser.add_argument("--updates", default=",".join(map(str, UPDATES)), help="with commas")
    parser.add_argument("--seeds", type=int, default=3, help="how often each is run")
    parser.add_argument("--out", default=None, help="folder for a JSON file and a figure")
    main(**vars(parser.parse_args()))
