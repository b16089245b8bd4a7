"""Physics-informed networks in stock `fit`, in double precision, by four optimizers.

A network u is trained to satisfy a differential equation at points of its domain: the model
returns what is left over of the equation there, with targets of zero and `loss="mse"`. Derivatives
of u are taken inside the model by `keras_extras.autodiff`.

- `poisson_1d`, `poisson_2d`: -u'' = f, of zero at the boundary.
- `burgers_1d`: u_t + u u_x = v u_xx with v = 0.01 / pi, whose sine steepens to a shock.
- `burgers_2d`: u_t + u (u_x + u_y) = v (u_xx + u_yy) with v = 0.1, a front that moves along the
  diagonal; the values at the start and the boundary are data.
- `inverse_burgers`: v is a weight, too, found from 200 measured values of u.

    python examples/physics_informed.py                         # burgers_1d by SSBroyden
    python examples/physics_informed.py --problem poisson_2d --optimizer LevenbergMarquardt
    python examples/physics_informed.py --fast                  # a smoke test
"""

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import ops
from scipy.stats import qmc

from keras_extras import autodiff, optimizers, visualization

VISCOSITY = 0.01 / np.pi
OPTIMIZERS: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "Adam": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(1e-2, 1000, 0.8)
    ),
    "LBFGS": lambda: optimizers.LBFGS(history_size=50, iterations_per_batch=50, tolerance=1e-13),
    "SSBroyden": lambda: optimizers.SSBroyden(iterations_per_batch=50, tolerance=1e-13),
    "LevenbergMarquardt": lambda: optimizers.LevenbergMarquardt(tolerance=1e-13),
}
# XLA has no fast solver of linear equations on a CPU.
COMPILED = {name: name != "LevenbergMarquardt" for name in OPTIMIZERS}


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Within it layers compute in float64; on JAX Keras has float32 only."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


class Slopes(keras.layers.Layer):
    """The derivatives of a field by each of its coordinates."""

    def __init__(self, field: keras.Model, **arguments: Any):
        super().__init__(**arguments)
        self.field = field

    def call(self, points: Any) -> Any:
        ones = ops.ones_like(points[:, :1])
        return autodiff.vector_jacobian_product(self.field, points, ones, wrt="inputs")


class PhysicsInformed(keras.Model):
    """Returns what is left over of an equation, and the field where it is measured.

    Args:
        field: Model from points to u.
        equation: Function of u, its slopes, its second derivatives along each coordinate, the
            points and the viscosity.
        viscosity: Float, where training starts from if it is to be found.
        is_inverse: Boolean, whether it is.
    """

    def __init__(self, field: Any, equation: Callable, viscosity: float, is_inverse: bool):
        super().__init__()
        self.field, self.equation = field, equation
        self.slopes = Slopes(field)
        self.log_viscosity = self.add_weight(
            name="log_viscosity",
            initializer=keras.initializers.Constant(np.log(viscosity)),
            trainable=is_inverse,
        )

    def residual(self, points: Any) -> Any:
        def curvature(axis):
            along = ops.zeros_like(points) + ops.one_hot(axis, points.shape[1], dtype=points.dtype)
            moved = autodiff.jacobian_vector_product(self.slopes, points, along, wrt="inputs")
            return moved[:, axis : axis + 1]

        slopes = ops.split(self.slopes(points), points.shape[1], axis=1)
        viscosity = ops.exp(self.log_viscosity)
        return self.equation(self.field(points), slopes, curvature, points, viscosity)

    def call(self, inputs: dict[str, Any]) -> dict[str, Any]:
        outputs = {"equation": self.residual(inputs["equation"])}
        if "data" in inputs:
            outputs["data"] = self.field(inputs["data"])
        return outputs


class Problem(NamedTuple):
    """An equation and its exact solution.

    Attributes:
        limits: Lower and upper ends of each coordinate.
        equation: As in `PhysicsInformed`.
        field: Function from columns of coordinates and a network's output to u.
        exact: Function from an array of points to u.
        data: Function from a number of points to such with a known u, or `None`.
        viscosity: Float.
        is_inverse: Boolean, whether the viscosity is to be found.
    """

    limits: tuple[list[float], list[float]]
    equation: Callable
    field: Callable
    exact: Callable[[np.ndarray], np.ndarray]
    data: Callable[[int], np.ndarray] | None = None
    viscosity: float = 1.0
    is_inverse: bool = False


def exact_burgers(points: np.ndarray, nodes: int = 100) -> np.ndarray:
    """The solution by Cole and Hopf, its integrals by the quadrature of Gauss and Hermite."""
    t, x = points.T
    place, weight = np.polynomial.hermite.hermgauss(nodes)
    around = x[:, None] - place * np.sqrt(4 * VISCOSITY * t)[:, None]
    density = weight * np.exp(-np.cos(np.pi * around) / (2 * np.pi * VISCOSITY))
    return -np.sum(np.sin(np.pi * around) * density, axis=1) / np.sum(density, axis=1)


def exact_front(points: np.ndarray) -> np.ndarray:
    t, x, y = points.T
    return 1 / (1 + np.exp((x + y - t) / 0.2))


def around_the_front(count: int) -> np.ndarray:
    """Points at the start and on the four sides of the square."""
    points = points_in(([0.0] * 3, [1.0] * 3), count, seed=1)
    side = np.arange(count) % 5
    points[side == 0, 0] = 0.0
    for number, (axis, value) in enumerate([(1, 0.0), (1, 1.0), (2, 0.0), (2, 1.0)], start=1):
        points[side == number, axis] = value
    return points


def burgers(u, slopes, curvature, points, viscosity):
    return slopes[0] + u * slopes[1] - viscosity * curvature(1)


def burgers_2d(u, slopes, curvature, points, viscosity):
    return slopes[0] + u * (slopes[1] + slopes[2]) - viscosity * (curvature(1) + curvature(2))


def poisson_1d(u, slopes, curvature, points, viscosity):
    return curvature(0) + 9 * np.pi**2 * ops.sin(3 * np.pi * points)


def poisson_2d(u, slopes, curvature, points, viscosity):
    x, y = points[:, :1], points[:, 1:]
    source = 5 * np.pi**2 * ops.sin(np.pi * x) * ops.sin(2 * np.pi * y)
    return curvature(0) + curvature(1) + source


def steepening_sine(t, x, network):
    return -ops.sin(np.pi * x) + t * (1 - x**2) * network


PROBLEMS = {
    "poisson_1d": Problem(
        ([0.0], [1.0]),
        poisson_1d,
        lambda x, network: x * (1 - x) * network,
        lambda points: np.sin(3 * np.pi * points[:, 0]),
    ),
    "poisson_2d": Problem(
        ([0.0, 0.0], [1.0, 1.0]),
        poisson_2d,
        lambda x, y, network: x * (1 - x) * y * (1 - y) * network,
        lambda points: np.sin(np.pi * points[:, 0]) * np.sin(2 * np.pi * points[:, 1]),
    ),
    "burgers_1d": Problem(
        ([0.0, -1.0], [1.0, 1.0]), burgers, steepening_sine, exact_burgers, viscosity=VISCOSITY
    ),
    "burgers_2d": Problem(
        ([0.0] * 3, [1.0] * 3),
        burgers_2d,
        lambda t, x, y, network: network,
        exact_front,
        around_the_front,
        viscosity=0.1,
    ),
    "inverse_burgers": Problem(
        ([0.0, -1.0], [1.0, 1.0]),
        burgers,
        steepening_sine,
        exact_burgers,
        lambda count: points_in(([0.0, -1.0], [1.0, 1.0]), min(count, 200), seed=1),
        viscosity=10 * VISCOSITY,
        is_inverse=True,
    ),
}


def points_in(limits: tuple[list[float], list[float]], count: int, seed: int) -> np.ndarray:
    """Points that fill a box evenly."""
    sobol = qmc.Sobol(len(limits[0]), seed=seed)
    return qmc.scale(sobol.random(count), *limits)


def make_model(problem: Problem, width: int, depth: int, seed: int) -> PhysicsInformed:
    keras.utils.set_random_seed(seed)
    lower, upper = map(np.array, problem.limits)
    points = keras.Input((len(lower),))
    hidden = (points - lower) * (2 / (upper - lower)) - 1
    for _ in range(depth):
        hidden = keras.layers.Dense(width, activation="tanh")(hidden)
    network = keras.layers.Dense(1)(hidden)
    columns = [points[:, i : i + 1] for i in range(len(lower))]
    field = keras.Model(points, problem.field(*columns, network))
    return PhysicsInformed(field, problem.equation, problem.viscosity, problem.is_inverse)


class Watch(keras.callbacks.Callback):
    """Compares with the exact solution about each second, and ends training in time."""

    def __init__(self, problem: Problem, seconds: float):
        super().__init__()
        self.points = points_in(problem.limits, 8192, seed=2)
        self.exact, self.limit = problem.exact(self.points), seconds
        self.seconds: list[float] = []
        self.errors: list[float] = []
        self.still_epochs = 0

    def on_train_begin(self, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter() - self.start
        # A quasi-Newton method that has forgotten its estimate may go on.
        is_still = getattr(self.model.optimizer, "converged", False)
        self.still_epochs = self.still_epochs + 1 if is_still else 0
        is_over = now > self.limit or self.still_epochs == 3
        if is_over or not self.seconds or now > self.seconds[-1] + 1.0:
            error = self.model.field.predict_on_batch(self.points)[:, 0] - self.exact
            self.seconds.append(now)
            self.errors.append(float(np.linalg.norm(error) / np.linalg.norm(self.exact)))
        self.model.stop_training = self.model.stop_training or is_over


def solve(
    name: str,
    optimizer: str = "SSBroyden",
    seconds: float = 300.0,
    width: int = 20,
    depth: int = 3,
    points: int = 4096,
    seed: int = 0,
) -> Watch:
    """Trains on one of the problems; all points are one batch."""
    problem = PROBLEMS[name]
    model = make_model(problem, width, depth, seed)
    x = {"equation": points_in(problem.limits, points, seed)}
    if problem.equation is burgers:
        # Half of the points gathers where the shock will be, which others miss.
        x["equation"][: points // 2, 1] **= 3
    y = {"equation": np.zeros((points, 1))}
    if problem.data is not None:
        # Each row of a batch has a point of either kind.
        x["data"] = np.resize(problem.data(points), (points, len(problem.limits[0])))
        y["data"] = problem.exact(x["data"])[:, None]
    model.compile(OPTIMIZERS[optimizer](), dict.fromkeys(y, "mse"), jit_compile=COMPILED[optimizer])
    watch = Watch(problem, seconds)
    model.fit(x, y, batch_size=points, epochs=10**6, shuffle=False, callbacks=[watch], verbose=0)
    return watch


def draw_errors(watches: dict[str, Watch]) -> Any:
    figure = visualization.figures.make_figure(5.0, 3.6)
    ax = figure.subplots()
    visualization.figures.style_axes(ax)
    for color, (name, watch) in zip(visualization.figures.COLORS, watches.items()):
        ax.semilogy(watch.seconds, watch.errors, color=color, label=name)
    ax.set(xlabel="seconds", ylabel="relative L2 error")
    ax.legend(frameon=False)
    return figure


def draw_field(name: str, watch: Watch) -> Any:
    """The field and its error over the first two coordinates, the last one in their middle."""
    (lower, upper), problem = PROBLEMS[name].limits, PROBLEMS[name]
    axes = [np.linspace(low, high, 101) for low, high in zip(lower[:2], upper[:2])]
    grid = np.meshgrid(*axes, *([0.5] for _ in lower[2:]), indexing="ij")
    points = np.stack([coordinate.ravel() for coordinate in grid], axis=1)
    points[:, 0] = np.maximum(points[:, 0], 1e-9)  # The exact solution divides by the time.
    found = watch.model.field.predict_on_batch(points)[:, 0]
    values = {"network": found, "error": found - problem.exact(points)}
    figure = visualization.figures.make_figure(9.0, 3.4)
    for ax, (title, value) in zip(figure.subplots(1, 2), values.items()):
        if len(axes) == 1:
            ax.plot(axes[0], value)
        else:
            mesh = ax.pcolormesh(*axes, value.reshape(101, 101).T, shading="auto")
            figure.colorbar(mesh, ax=ax)
        ax.set(title=title, xlabel="first coordinate")
    return figure


def main(
    problem: str = "burgers_1d",
    optimizer: str = "SSBroyden",
    seconds: float = 300.0,
    width: int = 20,
    points: int = 4096,
    seed: int = 0,
    out: str | Path = "outputs/physics_informed",
    fast: bool = False,
) -> dict[str, float]:
    """Trains, prints and draws; returns the error and, if it was to be found, the viscosity."""
    if fast:
        seconds, width, points = 0.0, 4, 32
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with double_precision():
        watch = solve(problem, optimizer, seconds, width, points=points, seed=seed)
        figures = {"field": draw_field(problem, watch), "error": draw_errors({optimizer: watch})}
    for title, figure in figures.items():
        visualization.save_figure(figure, out / f"{problem}_{title}.png")
    result = {"error": watch.errors[-1], "seconds": watch.seconds[-1]}
    print(f"{problem}, {optimizer}: relative L2 error {watch.errors[-1]:.1e}", end=" ")
    print(f"after {watch.seconds[-1]:.0f} seconds")
    if PROBLEMS[problem].is_inverse:
        result["viscosity"] = float(np.exp(watch.model.log_viscosity.numpy()))
        result["viscosity_error"] = abs(result["viscosity"] / VISCOSITY - 1)
        print(f"viscosity {result['viscosity']:.7f}, in truth {VISCOSITY:.7f}", end=", ")
        print(f"relative error {result['viscosity_error']:.1e}")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problem", default="burgers_1d", choices=list(PROBLEMS))
    parser.add_argument("--optimizer", default="SSBroyden", choices=list(OPTIMIZERS))
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--width", type=int, default=20, help="units of each of 3 layers")
    parser.add_argument("--points", type=int, default=4096, help="where the equation holds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="outputs/physics_informed", help="folder for figures")
    parser.add_argument("--fast", action="store_true", help="one epoch of a tiny network")
    main(**vars(parser.parse_args()))
