"""Derivative-free training of one autoencoder: this package and its peers, side by side.

The task: an autoencoder 30-10-30 in KernelML's form (604 weights, two scalars that are not
negative after each filter) on standardised Higgs events, in batches of 500. Every method starts
from the same weights and gets the same wall clock, after one step that compiles it. The result
is the mean squared error on all rows over that of PCA with 10 components.

    python benchmarks/derivative_free.py                       # simulated events, 20 s each
    python benchmarks/derivative_free.py --data PATH           # a CSV of the Higgs challenge
    pip install "keras-extras[peers]"                          # for evosax and PyGAD
"""

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from sklearn.decomposition import PCA

import keras_extras

LATENTS = 10
BATCH = 500
POPULATION = 256


@dataclass
class Run:
    """What a method did within its time: evaluations, and the error as time went by."""

    method: str
    evaluations: int = 0
    seconds: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)


class Task:
    """The data, the network and the clock that all methods share."""

    def __init__(self, data: str, seconds: float, seed: int):
        features = keras_extras.datasets.higgs.load_events(data).features
        imputer = keras_extras.layers.MissingValueImputer()
        imputer.adapt(features)
        rows = keras.ops.convert_to_numpy(imputer(features))
        rows = (rows - rows.mean(0)) / rows.std(0)
        self.x = rows[: len(rows) // BATCH * BATCH].astype("float32")
        pca = PCA(LATENTS).fit(self.x)
        restored = pca.inverse_transform(pca.transform(self.x))
        self.floor = float(np.mean((self.x - restored) ** 2))
        self.seconds = seconds
        self.seed = seed

    def model(self) -> keras.Model:
        """The network with the weights that every method starts from."""
        keras.utils.set_random_seed(self.seed)
        width = self.x.shape[1]
        start = keras.initializers.RandomUniform(-0.1, 0.1)
        return keras.Sequential(
            [
                keras.Input((width,)),
                keras_extras.layers.EinsteinLatent(
                    LATENTS, form="field_equation", kernel_initializer=start
                ),
                keras.layers.Dense(width, use_bias=False, kernel_initializer=start),
                keras_extras.layers.ScaleShift(),
            ]
        )

    def batches(self):
        """Batches of rows, shuffled anew in every epoch, without end."""
        rng = np.random.default_rng(self.seed)
        while True:
            yield from self.x[rng.permutation(len(self.x))].reshape(-1, BATCH, self.x.shape[1])


class Clock:
    """Starts with the first call; then notes the error about twenty times, off the clock."""

    def __init__(self, task: Task, run: Run):
        self.task, self.run = task, run
        self.start = None

    def over(self, error: Callable[[], float]) -> bool:
        """Whether the time is used up; `error` is called when a note is due."""
        now = time.perf_counter()
        if self.start is None:
            self.start = now
        elapsed = now - self.start
        if elapsed >= len(self.run.errors) * self.task.seconds / 20:
            self.run.seconds.append(elapsed)
            self.run.errors.append(error() / self.task.floor)
            self.start += time.perf_counter() - now
        return elapsed >= self.task.seconds

    @property
    def progress(self) -> float:
        return self.run.seconds and (time.perf_counter() - self.start) / self.task.seconds


def fit_keras(task: Task, run: Run, optimizer, decay: float, evaluations_per_batch: int) -> None:
    """Any Keras optimizer in stock `fit`; the learning rate falls linearly with the time."""
    model = task.model()
    epoch = len(task.x) // BATCH
    model.compile(optimizer, "mse", steps_per_execution=epoch // 4, jit_compile=True)
    clock = Clock(task, run)
    rate = float(optimizer.learning_rate)

    class StopInTime(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if run.errors:
                run.evaluations += epoch // 4 * evaluations_per_batch
            if clock.over(lambda: model.evaluate(task.x, task.x, batch_size=6000, verbose=0)):
                model.stop_training = True
            optimizer.learning_rate = rate * max(decay, 1 - (1 - decay) * clock.progress)

    x = task.x[: epoch // 4 * 4 * BATCH]
    model.fit(x, x, batch_size=BATCH, epochs=10**6, verbose=0, callbacks=[StopInTime()])


def monte_carlo(task: Task, run: Run) -> None:
    optimizer = keras_extras.optimizers.MonteCarloOptimizer(
        population_size=POPULATION, seed=task.seed
    )
    fit_keras(task, run, optimizer, decay=1.0, evaluations_per_batch=POPULATION)


def adam(task: Task, run: Run) -> None:
    fit_keras(task, run, keras.optimizers.Adam(0.01), decay=0.02, evaluations_per_batch=1)


def evosax(task: Task, run: Run, algorithm: str, **settings) -> None:
    import jax
    import jax.numpy as jnp
    from evosax.algorithms import algorithms

    def loss(weights, x):
        encoder, alpha, beta, decoder, scale, shift = weights
        alpha, beta, scale, shift = (jnp.maximum(w, 0.0) for w in (alpha, beta, scale, shift))
        z = x @ encoder
        h = -0.5 * alpha * z + beta * z
        return jnp.mean((scale * (h @ decoder + shift) - x) ** 2)

    # Keras lists alpha and beta behind the kernel, scale and shift behind the decoder.
    start = [jnp.asarray(w) for w in task.model().get_weights()]
    search = algorithms[algorithm](POPULATION, start)
    params = search.default_params.replace(**settings)
    key = jax.random.key(task.seed)
    state = search.init(key, start, params)

    @jax.jit
    def step(key, state, x):
        key, ask, tell = jax.random.split(key, 3)
        candidates, state = search.ask(ask, state, params)
        losses = jax.vmap(loss, (0, None))(candidates, x)
        state, _ = search.tell(tell, candidates, losses, state, params)
        return key, state

    total = jax.jit(loss)
    clock = Clock(task, run)
    for x in task.batches():
        key, state = step(key, state, x)
        jax.block_until_ready(state)
        if clock.over(lambda state=state: float(total(search.get_mean(state), task.x))):
            return
        run.evaluations += POPULATION


def pygad(task: Task, run: Run) -> None:
    import pygad
    import pygad.kerasga

    model = task.model()
    batches = task.batches()
    batch = next(batches)
    clock = Clock(task, run)

    def error(weights, x):
        restored = pygad.kerasga.predict(model=model, solution=weights, data=x)
        return float(np.mean((restored - x) ** 2))

    def fitness(search, solution, index):
        run.evaluations += 1
        return -error(solution, batch)

    def next_generation(search):
        nonlocal batch
        batch = next(batches)
        best = search.best_solution(search.last_generation_fitness)[0]
        return "stop" if clock.over(lambda: error(best, task.x)) else None

    population = pygad.kerasga.KerasGA(model=model, num_solutions=20).population_weights
    clock.over(lambda: error(population[0], task.x))
    pygad.GA(
        num_generations=10**6,
        num_parents_mating=5,
        initial_population=population,
        fitness_func=fitness,
        mutation_percent_genes=10,
        random_mutation_min_val=-0.1,
        random_mutation_max_val=0.1,
        on_generation=next_generation,
        random_seed=task.seed,
        suppress_warnings=True,
    ).run()


METHODS: dict[str, Callable[[Task, Run], None]] = {
    "keras-extras MonteCarloOptimizer": monte_carlo,
    "PyGAD kerasga": pygad,
    "evosax SNES": lambda task, run: evosax(task, run, "SNES", std_init=0.05),
    "evosax PGPE": lambda task, run: evosax(task, run, "PGPE", std_init=0.05),
    "evosax Sep_CMA_ES": lambda task, run: evosax(task, run, "Sep_CMA_ES", std_init=0.05),
    "(with the gradient: Adam)": adam,
}


def plot(runs: list[Run]):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for run in runs:
        axes.plot(run.seconds, np.maximum(np.array(run.errors) - 1, 1e-4), label=run.method)
    axes.set(
        xlabel="wall clock [s]",
        ylabel="mean squared error above the PCA floor (relative)",
        yscale="log",
        title="Derivative-free training of a 30-10-30 autoencoder on Higgs events",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def machine() -> dict[str, str]:
    libraries = ("tensorflow", "keras", "evosax", "jax", "pygad", "numpy")
    versions = {}
    for name in libraries:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **versions,
    }


def main(
    data: str = "simulated",
    seconds: float = 20.0,
    seed: int = 0,
    methods: str = "",
    out: str | Path = "outputs/derivative_free",
) -> list[Run]:
    task = Task(data, seconds, seed)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"{len(task.x)} rows of {data}, {seconds:g} s each, PCA floor {task.floor:.5f}\n")
    print(f"{'method':34} {'error / floor':>13} {'candidates / s':>15}")
    runs = []
    for name, method in METHODS.items():
        if methods not in name:
            continue
        run = Run(name)
        try:
            method(task, run)
        except ImportError as error:
            print(f'{name:34} skipped: {error}. Run: pip install "keras-extras[peers]"')
            continue
        runs.append(run)
        rate = run.evaluations / run.seconds[-1]
        rate = "" if method is adam else f"{rate:,.0f}"
        error = run.errors[-1] if math.isfinite(run.errors[-1]) else math.nan
        print(f"{name:34} {error:13.4f} {rate:>15}", flush=True)
    report = {"machine": machine(), "floor": task.floor, "runs": [vars(run) for run in runs]}
    (out / "derivative_free.json").write_text(json.dumps(report, indent=1))
    figure = plot(runs)
    keras_extras.visualization.save_figure(figure, out / "derivative_free.png")
    print(f"\nWritten: {out}/derivative_free.json, {out}/derivative_free.png")
    return runs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="simulated", help="simulated, atlas or a CSV file")
    parser.add_argument("--seconds", type=float, default=20.0, help="wall clock for each method")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", default="", help="only methods whose name contains this")
    parser.add_argument("--out", default="outputs/derivative_free", help="folder for JSON and PNG")
    main(**vars(parser.parse_args()))
