"""Optimizers side by side, on the same surfaces and the same network.

Every optimizer starts from the same point of four surfaces (a quadratic bowl a hundred times
steeper one way than the other, Rosenbrock's valley, Beale's function, and a saddle between two
minima) and from the same weights of a network on scikit-learn's digits, and takes the same number
of steps, each on all rows. Learning rates are a matter of luck unless they are searched for, so
each optimizer is shown at the best of nine; those with a line search need none. A step of
Newton's method or of a search by sampling costs more than one of SGD: the table counts steps.

    python examples/optimizer_race.py                     # some minutes
    python examples/optimizer_race.py --steps 1000
    python examples/optimizer_race.py --fast              # a smoke test
"""

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_extras import optimizers, visualization

FAMILIES: dict[str, dict[str, Callable[[float], keras.optimizers.Optimizer]]] = {
    "gradient descent": {
        "SGD": keras.optimizers.SGD,
        "momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
        "Nesterov": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
    },
    "a rate for each weight": {
        "AdaGrad": keras.optimizers.Adagrad,
        "RMSprop": keras.optimizers.RMSprop,
        "AdaDelta": keras.optimizers.Adadelta,
    },
    "with momentum, too": {
        "Adam": keras.optimizers.Adam,
        "NAdam": keras.optimizers.Nadam,
    },
    "a rate that learns": {
        "hypergradient SGD": lambda rate: optimizers.HypergradientSGD(
            # Unclipped, a rate that grew on flat ground throws it out of Rosenbrock's valley.
            rate,
            hypergradient_learning_rate=0.05,
            rule="multiplicative",
            clipnorm=1.0,
        ),
        "hypergradient Adam": lambda rate: optimizers.HypergradientAdam(
            rate, hypergradient_learning_rate=0.05, rule="multiplicative"
        ),
    },
    "curvature": {
        "L-BFGS": lambda rate: optimizers.LBFGS(iterations_per_batch=1),
        "Newton": lambda rate: optimizers.NewtonCG(iterations_per_batch=1),
    },
    "sampling": {
        "Monte Carlo": lambda rate: optimizers.MonteCarloOptimizer(
            rate, population_size=64, keep="current", seed=0
        ),
    },
}
OPTIMIZERS = {name: make for family in FAMILIES.values() for name, make in family.items()}
WITH_LINE_SEARCH = {"L-BFGS", "Newton"}
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)


tf.get_logger().setLevel("ERROR")  # every optimizer and surface is a separate function


class Surface(NamedTuple):
    """A function of two numbers with the least value 0, where to start, and what to draw."""

    function: Callable[[Any, Any], Any]
    start: tuple[float, float]
    limits: tuple[tuple[float, float], tuple[float, float]]


SURFACES = {
    "quadratic": Surface(
        lambda x, y: (x**2 + 100 * y**2) / 2, (-2.0, 0.8), ((-2.2, 1.2), (-1.0, 1.0))
    ),
    "Rosenbrock": Surface(
        lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2, (-1.2, 1.0), ((-1.8, 1.8), (-0.6, 2.2))
    ),
    "Beale": Surface(
        lambda x, y: (
            (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2
        ),
        (1.0, 1.5),
        ((-0.5, 4.0), (-1.0, 2.0)),
    ),
    "saddle": Surface(
        lambda x, y: x**2 / 2 + (y**2 - 1) ** 2 / 4, (-1.5, 1e-3), ((-1.8, 1.0), (-1.4, 1.4))
    ),
}


class Run(NamedTuple):
    """Where an optimizer went at its best learning rate."""

    rate: float
    losses: np.ndarray
    path: list[Any]


def best_of(runs: Iterable[Run]) -> Run:
    """The run with the lowest last loss; what diverged counts as infinite."""
    return min(runs, key=lambda run: np.nan_to_num(run.losses[-1], nan=np.inf))


def rewinder(optimizer: keras.optimizers.Optimizer) -> Callable[[float], None]:
    """A function that takes a built optimizer back to its first step, with another rate."""
    state = [ops.convert_to_numpy(variable).copy() for variable in optimizer.variables]

    def rewind(rate: float) -> None:
        for variable, value in zip(optimizer.variables, state):
            variable.assign(value)
        optimizer.learning_rate = rate

    return rewind


def race_on_surface(name: str, surface: Surface, rates: Sequence[float], steps: int) -> Run:
    """A custom training loop: `minimize` evaluates the loss itself, `apply` takes gradients."""
    weights = keras.Variable(surface.start, dtype="float32")
    optimizer = OPTIMIZERS[name](rates[0])
    optimizer.build([weights])
    rewind = rewinder(optimizer)

    def loss_fn():
        return surface.function(weights[0], weights[1])

    def step(number, path):
        if isinstance(optimizer, optimizers.LossEvaluatingOptimizer):
            optimizer.minimize(loss_fn, [weights])
        else:
            with tf.GradientTape() as tape:
                loss = loss_fn()
            optimizer.apply(tape.gradient(loss, [weights]), [weights])
        return ops.slice_update(path, [number + 1, 0], weights[None])

    @tf.function(autograph=False)
    def run():
        path = ops.concatenate([weights[None], ops.zeros((steps, 2))])
        return ops.fori_loop(0, steps, step, path)

    def descend(rate):
        weights.assign(surface.start)
        rewind(rate)
        path = np.asarray(run(), dtype="float64")
        with np.errstate(over="ignore", invalid="ignore"):
            return Run(rate, surface.function(*path.T), path)

    return best_of(map(descend, rates))


def make_network(optimizer: keras.optimizers.Optimizer, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    return model


def race_on_network(
    name: str, data: Sequence[np.ndarray], rates: Sequence[float], steps: int, seed: int
) -> tuple[Run, float]:
    """Stock `compile` and `fit`, all rows in each batch; and the test accuracy."""
    x, x_test, y, y_test = data
    optimizer = OPTIMIZERS[name](rates[0])
    model = make_network(optimizer, seed)
    optimizer.build(model.trainable_variables)
    rewind, start = rewinder(optimizer), model.get_weights()
    batches = tf.data.Dataset.from_tensors((x, y)).repeat(steps)

    def loss_of(weights):
        model.set_weights(weights)
        return model.evaluate(x, y, batch_size=len(x), verbose=0)[0]

    def fit(rate):
        model.set_weights(start)
        rewind(rate)
        path = [start]
        record = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: path.append(model.get_weights())
        )
        model.fit(batches, shuffle=False, callbacks=[record], verbose=0)
        return Run(rate, np.array([loss_of(path[-1])]), path)

    best = best_of(map(fit, rates))
    # Not from the logs of `fit`, which have the loss before the step of optimizers with gradients.
    losses = np.array([loss_of(weights) for weights in best.path])
    return best._replace(losses=losses), model.evaluate(x_test, y_test, verbose=0)[1]


def draw_families(names: Sequence[str], draw: Callable[[Any, list[str]], Any]) -> Any:
    """A figure with a panel for each family."""
    families = {title: [n for n in family if n in names] for title, family in FAMILIES.items()}
    families = {title: family for title, family in families.items() if family}
    columns = min(3, len(families))
    rows = -(-len(families) // columns)
    figure = visualization.figures.make_figure(4.4 * columns, 3.6 * rows)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, (title, family) in zip(axes, families.items()):
        draw(ax, family)
        ax.set_title(title)
    for ax in axes[len(families) :]:
        ax.remove()
    return figure


def draw_paths(landscape: visualization.LossLandscape) -> Any:
    def draw(ax, names):
        paths = {name: landscape.paths[name] for name in names}
        plane = landscape.horizontal, landscape.vertical, landscape.losses
        visualization.LossLandscape(*plane, paths).plot(ax)

    return draw_families(list(landscape.paths), draw)


def draw_losses(runs: dict[str, Run]) -> Any:
    def draw(ax, names):
        visualization.figures.style_axes(ax)
        for color, name in zip(visualization.figures.COLORS, names):
            ax.semilogy(runs[name].losses, color=color, label=name)
        ax.set(xlabel="step", ylabel="loss")
        ax.legend(frameon=False)

    return draw_families(list(runs), draw)


def main(
    names: Sequence[str] = tuple(OPTIMIZERS),
    steps: int = 300,
    network_steps: int = 100,
    out: str | Path = "outputs/optimizer_race",
    seed: int = 0,
    fast: bool = False,
) -> dict[str, dict[str, Run]]:
    """Runs the race and returns, for each surface and the network, the run of each optimizer."""
    rates = RATES[2:4] if fast else RATES
    steps, network_steps, resolution = (5, 2, 3) if fast else (steps, network_steps, 21)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    data = train_test_split(x, y, test_size=0.2, stratify=y, random_state=seed)

    results: dict[str, dict[str, Run]] = {title: {} for title in (*SURFACES, "digits")}
    print(
        f"Loss after {steps} steps on surfaces, {network_steps} on digits (at this learning rate)"
    )
    print(f"{'':18}" + "".join(f"{title:>18}" for title in results) + f"{'test accuracy':>15}")
    for name in names:
        tried = (1.0,) if name in WITH_LINE_SEARCH else rates
        for title, surface in SURFACES.items():
            results[title][name] = race_on_surface(name, surface, tried, steps)
        run, accuracy = race_on_network(name, data, tried, network_steps, seed)
        results["digits"][name] = run
        cells = [f"{runs[name].losses[-1]:.1e} ({runs[name].rate:g})" for runs in results.values()]
        print(
            f"{name:18}" + "".join(f"{cell:>18}" for cell in cells) + f"{accuracy:15.3f}",
            flush=True,
        )

    paths = {title: {n: run.path for n, run in runs.items()} for title, runs in results.items()}
    landscapes = {
        title: visualization.LossLandscape.from_function(
            surface.function, paths[title], surface.limits
        )
        for title, surface in SURFACES.items()
    }
    landscapes["digits"] = visualization.LossLandscape.from_model(
        make_network("sgd", seed), data[0], data[2], paths["digits"], resolution
    )
    figures = {title.lower(): draw_paths(landscape) for title, landscape in landscapes.items()}
    figures["digits_loss"] = draw_losses(results["digits"])
    for title, figure in figures.items():
        visualization.save_figure(figure, out / f"{title}.png")
    share = landscapes["digits"].explained_share
    print(f"The plane of digits.png holds {share:.0%} of the variance of the paths.")
    print(f"Written to {out}: {', '.join(f'{title}.png' for title in figures)}")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--names", nargs="+", default=list(OPTIMIZERS), choices=list(OPTIMIZERS))
    parser.add_argument("--steps", type=int, default=300, help="on each surface")
    parser.add_argument("--network-steps", type=int, default=100, help="on the digits")
    parser.add_argument("--out", default="outputs/optimizer_race", help="folder for figures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="few steps, few learning rates")
    main(**vars(parser.parse_args()))
