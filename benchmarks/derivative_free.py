"""Derivative-free training of three networks: this package and its peers, side by side.

- `higgs`: an autoencoder 30-10-30 in KernelML's form (604 weights, two scalars that are not
  negative after each filter) on standardized Higgs events, in batches of 500.
- `synthetic`: the same network on 20,000 rows of 30 features that 8 latent factors make.
- `digits`: a classifier 64-32-10 (2,410 weights) of scikit-learn's digits, in batches of 256.

Every method starts from the same weights and gets the same wall clock, three quarters of it for
`synthetic`, after one step that compiles it. The score of an autoencoder is its mean squared error
on all rows over that of PCA with 10 components; of the classifier it is the accuracy on a fifth of
the digits, always the same (of other fifths, all methods get up to 3 % fewer right).
MonteCarloOptimizer has its default arguments in all of them, or others by `--noise` and `--sigma`.

    python benchmarks/derivative_free.py                       # simulated events, 20 s each
    python benchmarks/derivative_free.py --data PATH           # a CSV of the Higgs challenge
    python benchmarks/derivative_free.py --tasks digits --methods Monte
    KERAS_BACKEND=jax python benchmarks/derivative_free.py --tasks higgs --methods Monte,SNES
    pip install "keras-extras[peers]"                          # for evosax and PyGAD
"""

import functools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import command_line
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import keras_extras

LATENTS = 10
POPULATION = 256
STEPS = 10  # in one call of the compiled step


@dataclass
class Run:
    """What a method did within its time: evaluations, and the score as time went by."""

    method: str
    task: str
    seed: int
    evaluations: int = 0
    seconds: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    compile_seconds: float = 0.0

    @property
    def rate(self) -> float:
        return self.evaluations / self.seconds[-1]


class Autoencoder:
    """Rows to restore, the network, and its loss for peers that work without Keras."""

    batch = 500
    loss = "mse"
    label = "error over the PCA floor"

    def __init__(self, rows: np.ndarray, seconds: float, seed: int):
        rows = (rows - rows.mean(0)) / rows.std(0)
        self.x = self.y = rows[: len(rows) // self.batch * self.batch].astype("float32")
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

    def score(self, model: keras.Model) -> float:
        return model.evaluate(self.x, self.x, batch_size=6000, verbose=0) / self.floor

    def jax_loss(self, weights, x, y):
        import jax.numpy as jnp

        # Keras lists alpha and beta behind the kernel, scale and shift behind the decoder.
        encoder, alpha, beta, decoder, scale, shift = weights
        alpha, beta, scale, shift = (jnp.maximum(w, 0.0) for w in (alpha, beta, scale, shift))
        z = x @ encoder
        h = -0.5 * alpha * z + beta * z
        return jnp.mean((scale * (h @ decoder + shift) - y) ** 2)

    def jax_score(self, weights):
        return self.jax_loss(weights, self.x, self.x) / self.floor


def higgs(data: str, seconds: float, seed: int) -> Autoencoder:
    features = keras_extras.datasets.higgs.load_events(data).features
    imputer = keras_extras.layers.MissingValueImputer()
    imputer.adapt(features)
    return Autoencoder(keras.ops.convert_to_numpy(imputer(features)), seconds, seed)


def synthetic(data: str, seconds: float, seed: int) -> Autoencoder:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(20_000, 8))
    rows = np.tanh(factors @ rng.normal(size=(8, 30)) / 8) + 0.1 * rng.normal(size=(20_000, 30))
    return Autoencoder(rows, 0.75 * seconds, seed)


class Digits:
    """Digits to tell apart; see `Autoencoder`."""

    batch = 256
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    label = "test accuracy"

    def __init__(self, data: str, seconds: float, seed: int):
        x, y = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(x))
        x, y = (x[order] / 16).astype("float32"), y[order].astype("int32")
        rows = int(0.8 * len(x))
        self.x, self.x_test, self.y, self.y_test = x[:rows], x[rows:], y[:rows], y[rows:]
        self.seconds = seconds
        self.seed = seed

    def model(self) -> keras.Model:
        keras.utils.set_random_seed(self.seed)
        return keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(32, activation="relu"),
                keras.layers.Dense(10),
            ]
        )

    def score(self, model: keras.Model) -> float:
        return float(np.mean(model.predict_on_batch(self.x_test).argmax(-1) == self.y_test))

    def jax_logits(self, weights, x):
        import jax

        kernel, bias, kernel_2, bias_2 = weights
        return jax.nn.relu(x @ kernel + bias) @ kernel_2 + bias_2

    def jax_loss(self, weights, x, y):
        import jax
        import jax.numpy as jnp

        log_probs = jax.nn.log_softmax(self.jax_logits(weights, x))
        return -jnp.mean(jnp.take_along_axis(log_probs, y[:, None], 1))

    def jax_score(self, weights):
        import jax.numpy as jnp

        return jnp.mean(self.jax_logits(weights, self.x_test).argmax(-1) == self.y_test)


TASKS = {"higgs": higgs, "synthetic": synthetic, "digits": Digits}


def batches(task):
    """Batches of rows and targets, shuffled anew in every epoch, without end."""
    rng = np.random.default_rng(task.seed)
    order = rng.permutation(len(task.x))
    while True:
        if len(order) < task.batch:
            order = np.concatenate([order, rng.permutation(len(task.x))])
        index, order = np.split(order, [task.batch])
        yield task.x[index], task.y[index]


class Clock:
    """Starts with the first call; then notes the score about twenty times, off the clock."""

    def __init__(self, task, run: Run):
        self.task, self.run = task, run
        self.start = None

    def over(self, score: Callable[[], float]) -> bool:
        """Whether the time is used up; `score` is called when a note is due."""
        now = time.perf_counter()
        if self.start is None:
            self.start = now
        elapsed = now - self.start
        if elapsed >= len(self.run.scores) * self.task.seconds / 20:
            self.run.seconds.append(elapsed)
            self.run.scores.append(float(score()))
            self.start += time.perf_counter() - now
        return elapsed >= self.task.seconds

    @property
    def progress(self) -> float:
        return self.run.seconds and (time.perf_counter() - self.start) / self.task.seconds


def fit_keras(
    task, run: Run, optimizer, evaluations: int, decay: float = 1.0, plain: bool = False
) -> None:
    """Any Keras optimizer in stock `fit`; the learning rate falls linearly with time to `decay`.

    With `plain` it is compiled without flags; two steps are made before the clock starts then.
    """
    model = task.model()
    steps = 1 if plain else STEPS
    flags = {} if plain else {"steps_per_execution": STEPS, "jit_compile": True}
    model.compile(optimizer, task.loss, **flags)
    clock = Clock(task, run)
    rate = float(optimizer.learning_rate)

    begun = time.perf_counter()

    class StopInTime(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if plain and batch == 0 and not run.scores:
                return  # Steps of ours are compiled in the second execution.
            if run.scores:
                run.evaluations += steps * evaluations
            else:
                run.compile_seconds = time.perf_counter() - begun
            # On JAX the callback's model has the weights, while `fit` runs.
            if clock.over(lambda: task.score(self.model)):
                model.stop_training = True
            if decay < 1:
                optimizer.learning_rate = rate * max(decay, 1 - (1 - decay) * clock.progress)

    # Rows without end, as those of the peers, and epochs long enough not to count.
    fit = {"shuffle": False, "epochs": 10**6, "verbose": 0, "callbacks": [StopInTime()]}
    if keras.backend.backend() == "jax":
        model.fit(batches(task), steps_per_epoch=100 * STEPS, **fit)
        return
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices((task.x, task.y)).cache()
    rows = rows.shuffle(len(task.x), seed=task.seed).repeat()
    model.fit(
        rows.batch(task.batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE),
        steps_per_epoch=100 * STEPS,
        **fit,
    )


def monte_carlo(task, run: Run, **settings) -> None:
    plain = settings.pop("plain", False)
    optimizer = keras_extras.optimizers.MonteCarloOptimizer(seed=task.seed, **settings)
    fit_keras(task, run, optimizer, optimizer.population_size, plain=plain)


def adam(task, run: Run) -> None:
    fit_keras(task, run, keras.optimizers.Adam(0.01), 1, decay=0.02)


def evosax(task, run: Run, algorithm: str, **settings) -> None:
    import jax
    import jax.numpy as jnp
    from evosax.algorithms import algorithms

    start = [jnp.asarray(w) for w in task.model().get_weights()]
    search = algorithms[algorithm](POPULATION, start)
    params = search.default_params.replace(**settings)
    key = jax.random.key(task.seed)
    state = search.init(key, start, params)

    @jax.jit
    def step(key, state, x, y):
        key, ask, tell = jax.random.split(key, 3)
        candidates, state = search.ask(ask, state, params)
        losses = jax.vmap(task.jax_loss, (0, None, None))(candidates, x, y)
        state, _ = search.tell(tell, candidates, losses, state, params)
        return key, state

    score = jax.jit(task.jax_score)
    clock = Clock(task, run)
    for x, y in batches(task):
        key, state = step(key, state, x, y)
        jax.block_until_ready(state)
        if clock.over(lambda state=state: score(search.get_mean(state))):
            return
        run.evaluations += POPULATION


def pygad(task, run: Run) -> None:
    import pygad
    import pygad.kerasga

    model = task.model()
    model.compile(loss=task.loss)
    rows = batches(task)
    x, y = next(rows)
    clock = Clock(task, run)

    def fitness(search, solution, index):
        run.evaluations += 1
        outputs = pygad.kerasga.predict(model=model, solution=solution, data=x)
        return -float(keras.ops.mean(keras.losses.get(task.loss)(y, outputs)))

    def score(solution):
        model.set_weights(pygad.kerasga.model_weights_as_matrix(model, solution))
        return task.score(model)

    def next_generation(search):
        nonlocal x, y
        x, y = next(rows)
        best = search.best_solution(search.last_generation_fitness)[0]
        return "stop" if clock.over(lambda: score(best)) else None

    population = pygad.kerasga.KerasGA(model=model, num_solutions=20).population_weights
    clock.over(lambda: score(population[0]))
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


METHODS: dict[str, Callable] = {
    "keras-extras MonteCarloOptimizer": monte_carlo,
    "keras-extras, no flags": functools.partial(monte_carlo, plain=True),
    "evosax SNES": lambda task, run: evosax(task, run, "SNES", std_init=0.05),
    "evosax PGPE": lambda task, run: evosax(task, run, "PGPE", std_init=0.05),
    "evosax Sep_CMA_ES": lambda task, run: evosax(task, run, "Sep_CMA_ES", std_init=0.05),
    "PyGAD kerasga": pygad,
    "(with the gradient: Adam)": adam,
}


def with_settings(kinds: str, widths: str) -> dict[str, Callable]:
    """MonteCarloOptimizer with other kinds of noise or other widths, listed with commas."""
    noises = {
        f"keras-extras, {kind} noise": functools.partial(monte_carlo, noise=kind)
        for kind in filter(None, kinds.split(","))
    }
    sigmas = {
        f"keras-extras, sigma {width}": functools.partial(monte_carlo, sigma=float(width))
        for width in filter(None, widths.split(","))
    }
    return noises | sigmas


def plot(runs: list[Run]):
    """The way of each method on the Higgs events, for the first seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for run in runs:
        axes.plot(run.seconds, np.maximum(np.array(run.scores) - 1, 1e-4), label=run.method)
    axes.set(
        xlabel="wall clock [s]",
        ylabel="mean squared error above the PCA floor (relative)",
        yscale="log",
        title="Derivative-free training of a 30-10-30 autoencoder on Higgs events",
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)
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
    tasks: str = "higgs,synthetic,digits",
    seconds: float = 20.0,
    seeds: int = 3,
    methods: str = "",
    noise: str = "",
    sigma: str = "",
    out: str | Path = "outputs/derivative_free",
) -> list[Run]:
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    runs: list[Run] = []
    for name in tasks.split(","):
        of_seeds = [TASKS[name](data, seconds, seed) for seed in range(seeds)]
        label = of_seeds[0].label
        print(f"\n{name}, medians of {seeds} seeds")
        print(f"{'method':34} {label:>26} {'candidates / s':>15} {'compiled [s]':>13}   each seed")
        for method, train in {**METHODS, **with_settings(noise, sigma)}.items():
            if not any(part in method for part in methods.split(",")):
                continue
            of_method = []
            for task in of_seeds:
                run = Run(method, name, task.seed)
                try:
                    train(task, run)
                except ImportError as error:
                    print(f'{method:34} skipped: {error}. Run: pip install "keras-extras[peers]"')
                    break
                of_method.append(run)
            if of_method:
                score = statistics.median(run.scores[-1] for run in of_method)
                rate = statistics.median(run.rate for run in of_method)
                each = " ".join(f"{run.scores[-1]:.4f}" for run in of_method)
                compiled = statistics.median(run.compile_seconds for run in of_method)
                print(
                    f"{method:34} {score:26.4f} {rate:15,.0f} {compiled:13.1f}   {each}", flush=True
                )
            runs += of_method
    report = {"machine": machine(), "runs": [vars(run) for run in runs]}
    (out / "derivative_free.json").write_text(json.dumps(report, indent=1))
    drawn = [run for run in runs if run.task == "higgs" and not run.seed]
    if drawn:
        keras_extras.visualization.save_figure(plot(drawn), out / "derivative_free.png")
    print(f"\nWritten to {out}")
    return runs


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--data", default="simulated", help="simulated, atlas or a CSV file")
    parser.add_argument("--tasks", default=",".join(TASKS), help="which tasks, with commas")
    parser.add_argument("--seconds", type=float, default=20.0, help="wall clock for each method")
    parser.add_argument("--seeds", type=int, default=3, help="how often, each from new weights")
    parser.add_argument("--methods", default="", help="parts of names of methods, with commas")
    parser.add_argument("--noise", default="", help="further kinds of noise, with commas")
    parser.add_argument("--sigma", default="", help="further widths, with commas")
    parser.add_argument("--out", default="outputs/derivative_free", help="folder for JSON and PNG")
    main(**vars(parser.parse_args()))
