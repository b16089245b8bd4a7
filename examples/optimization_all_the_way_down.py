"""Five nested optimization problems, each with its result.

1. The penalty of a ridge regression, as a minimum over penalties of a loss of minima over weights.
2. Two firms that each choose what earns them most, and the tax that makes them produce what is best
   for all: a minimum over equilibria.
3. A pendulum swung up by a Keras model, trained through the steps of the simulation.
4. Wrong labels found by the derivative of a trained model with respect to the weight of each row.
5. Ten images, one for each digit, learned so that a model trained on them alone knows digits.

    python examples/optimization_all_the_way_down.py           # two minutes
    python examples/optimization_all_the_way_down.py --fast    # a smoke test
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import ops
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from keras_extras import autodiff, unrolled, visualization

STEP = 0.05  # of the simulation, in seconds
GRAVITY_OVER_LENGTH, FRICTION, LARGEST_TORQUE = 9.81, 0.2, 10.0
ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def best_penalty(rows: int = 40) -> tuple[float, float]:
    """Validation loss of a ridge regression at the penalty found, and at the best of a grid."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 15)).astype("float32")
    y = (x @ generator.normal(size=15) + 3.0 * generator.normal(size=rows)).astype("float32")
    half = rows // 2

    def weights(log_penalty):
        def loss(w):
            errors = ops.matmul(x[:half], w) - y[:half]
            return ops.mean(ops.square(errors)) + ops.exp(log_penalty) * ops.sum(ops.square(w))

        return autodiff.minimize(loss, np.zeros(15, "float32")).minimizer

    def validation_loss(log_penalty):
        return ops.mean(ops.square(ops.matmul(x[half:], weights(log_penalty)) - y[half:]))

    found = autodiff.minimize(validation_loss, np.float32(0.0))

    def closed_form(penalty):
        matrix = x[:half].T @ x[:half] / half + penalty * np.eye(15)
        solution = np.linalg.solve(matrix, x[:half].T @ y[:half] / half)
        return np.mean((x[half:] @ solution - y[half:]) ** 2)

    grid = min(map(closed_form, np.exp(np.linspace(-5.0, 5.0, 1001))))
    print(
        f"1. ridge regression: penalty {float(ops.exp(found.minimizer)):.3f}, validation loss "
        f"{float(found.value):.5f} (best of 1,001 by the closed form: {grid:.5f})"
    )
    return float(found.value), float(grid)


def best_tax() -> tuple[float, float]:
    """The tax that is found, and the closed form.

    Demand sets the price `10 - q1 - q2`, making one costs 1 and does a damage of 4 to others. Each
    firm chooses its quantity given the other's; the tax makes the sum what is best for all.
    """

    def quantities(tax):
        def answers(choices):
            """Returns the most profitable quantity of each firm, given that of the other."""
            first, second = choices
            return [0.5 * (10.0 - 1.0 - tax - other) for other in (second, first)]

        return autodiff.fixed_point(answers, [np.float32(1.0), np.float32(1.0)]).point

    def social_loss(tax):
        total = sum(quantities(tax))
        # What buyers would pay for all units, less costs and damage.
        return -(10.0 * total - 0.5 * ops.square(total) - 5.0 * total)

    found = float(autodiff.minimize(social_loss, np.float32(0.5)).minimizer)
    expected = 9.0 - 1.5 * 5.0  # where both make 2 (9 - tax) / 3 = 10 - 5
    print(f"2. two firms: tax {found:.4f} (closed form {expected:.4f})")
    return found, expected


class Pendulum(keras.layers.Layer):
    """A step of a pendulum with a motor, as the cell of a `keras.layers.RNN`.

    The angle is 0 where it stands upright; the controller sees its cosine, sine and velocity.
    """

    state_size = (1, 1)
    output_size = 2

    def __init__(self, controller: keras.Model, **kwargs):
        super().__init__(**kwargs)
        self.controller = controller

    def build(self, input_shape):
        self.built = True

    def call(self, inputs, states):
        angle, velocity = states
        seen = ops.concatenate([ops.cos(angle), ops.sin(angle), velocity / 8.0], axis=-1)
        torque = LARGEST_TORQUE * self.controller(seen)
        velocity = velocity + STEP * (
            GRAVITY_OVER_LENGTH * ops.sin(angle) - FRICTION * velocity + torque
        )
        angle = angle + STEP * velocity
        return ops.concatenate([angle, velocity], axis=-1), [angle, velocity]


def swing_up(epochs: int, num_steps: int = 60) -> tuple[dict, dict]:
    """Trains the controller from hanging; share of time upright, and angles, before and after."""
    keras.utils.set_random_seed(0)
    controller = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(16, activation="tanh"),
            keras.layers.Dense(1, activation="tanh"),
        ]
    )
    angle, velocity = keras.Input((1,)), keras.Input((1,))
    times = keras.Input((num_steps, 1))
    path = keras.layers.RNN(Pendulum(controller), return_sequences=True)(
        times, initial_state=[angle, velocity]
    )
    model = keras.Model([times, angle, velocity], path)

    def distance_from_upright(_, path):
        angle, velocity = ops.split(path, 2, axis=-1)
        return ops.mean(1.0 - ops.cos(angle) + 0.01 * ops.square(velocity), axis=-1)

    rows = 16
    start = np.pi + np.linspace(-0.5, 0.5, rows, dtype="float32")[:, None]
    data = [np.zeros((rows, num_steps, 1), "float32"), start, np.zeros_like(start)]
    before = model.predict(data, verbose=0)
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(0.03, epochs), clipnorm=1.0
    )
    model.compile(optimizer, distance_from_upright)
    model.fit(data, np.zeros((rows, num_steps, 2)), batch_size=rows, epochs=epochs, verbose=0)
    after = model.predict(data, verbose=0)
    upright = {
        name: float(np.mean(np.cos(path[:, -20:, 0]) > 0.9))
        for name, path in (("before", before), ("after", after))
    }
    print(
        f"3. pendulum: upright in the last second in {upright['before']:.0%} of the time before, "
        f"{upright['after']:.0%} after {epochs} epochs"
    )
    return upright, {"before": before[..., 0], "after": after[..., 0]}


def digits(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images as rows of 64 numbers from 0 to 1, and labels, shuffled."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    return (x[order] / 16.0).astype("float32"), y[order]


def logistic_regression() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(np.argmax(model.predict(x, verbose=0), axis=1) == y))


def wrong_labels(meta_steps: int, seed: int = 0) -> tuple[float, np.ndarray, np.ndarray]:
    """AUROC of the learned weights of rows for 400 wrong labels of 1,000, weights, and which."""
    generator = np.random.default_rng(seed)
    x, y = digits(seed)
    wrong = np.zeros(1000, bool)
    wrong[generator.choice(1000, 400, replace=False)] = True
    labels = y[:1000].copy()
    labels[wrong] = (labels[wrong] + generator.integers(1, 10, 400)) % 10
    model = logistic_regression()
    training = unrolled.UnrolledTraining(
        model,
        keras.optimizers.SGD(0.1, momentum=0.9),
        ENTROPY,
        steps=100,
        hyperparameters={"sample_weight": np.ones(1000)},
        batch_size=None,
    )
    validation = x[1000:1400], y[1000:1400]
    training.assign(training.run(x[:1000], labels))
    before = accuracy(model, x[1400:], y[1400:])
    optimizer = keras.optimizers.Adam(0.1)
    training.fit(
        x[:1000], labels, validation, meta_optimizer=optimizer, meta_steps=meta_steps, verbose=0
    )
    weights = training.hyperparameters["sample_weight"]
    auroc = float(roc_auc_score(wrong, -weights))
    print(
        f"4. wrong labels: AUROC of the weights of rows {auroc:.3f}; test accuracy {before:.3f} -> "
        f"{accuracy(model, x[1400:], y[1400:]):.3f}"
    )
    return auroc, weights, wrong


def ten_images(meta_steps: int) -> tuple[dict, np.ndarray]:
    """Test accuracy of models trained on ten learned and on ten drawn images, and the learned."""
    x, y = digits(0)
    train, test = slice(0, 1200), slice(1200, None)
    first = np.array([np.flatnonzero(y == digit)[0] for digit in range(10)])
    model = logistic_regression()
    training = unrolled.UnrolledTraining(
        model,
        keras.optimizers.SGD(0.5),
        ENTROPY,
        steps=20,
        hyperparameters={"x": x[first]},
        batch_size=None,
    )
    labels = np.arange(10)
    training.assign(training.run(None, labels))
    scores = {"drawn": accuracy(model, x[test], y[test])}
    optimizer = keras.optimizers.Adam(0.03)
    validation = x[train], y[train]
    training.fit(
        None, labels, validation, meta_optimizer=optimizer, meta_steps=meta_steps, verbose=0
    )
    scores["learned"] = accuracy(model, x[test], y[test])
    print(
        f"5. ten images: test accuracy {scores['drawn']:.3f} of ten drawn ones, "
        f"{scores['learned']:.3f} learned"
    )
    return scores, training.hyperparameters["x"]


def plot_angles(angles: dict[str, np.ndarray]) -> Figure:
    """Angles against time, of all starts, before and after training."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    for ax, (name, paths) in zip(figure.subplots(1, 2, sharey=True), angles.items()):
        ax.plot(STEP * np.arange(1, paths.shape[1] + 1), np.cos(paths.T), color="C0", alpha=0.4)
        ax.set(title=f"{name.capitalize()} training", xlabel="time (s)", ylim=(-1.1, 1.1))
    figure.axes[0].set_ylabel("height of the pendulum (lengths)")
    return figure


def plot_weights(weights: np.ndarray, wrong: np.ndarray) -> Figure:
    """Histograms of the learned weights of rows."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    ax = figure.subplots()
    bins = np.geomspace(weights.min(), weights.max(), 40)
    ax.hist([weights[~wrong], weights[wrong]], bins, label=["right label", "wrong label"])
    ax.set(xscale="log", xlabel="learned weight of the row", ylabel="rows")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False)
    return figure


def plot_images(images: np.ndarray) -> Figure:
    """The learned images, one for each digit."""
    figure = Figure(figsize=(8, 1.2), layout="constrained")
    for digit, (ax, image) in enumerate(zip(figure.subplots(1, 10), images)):
        ax.imshow(image.reshape(8, 8), cmap="gray_r")
        ax.set(xticks=[], yticks=[], title=str(digit))
    return figure


def main(out: str | Path = "outputs/optimization_all_the_way_down", fast: bool = False) -> dict:
    """Runs the five problems and returns their numbers."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    ridge, tax = best_penalty(), best_tax()
    upright, angles = swing_up(epochs=20 if fast else 300)
    auroc, weights, wrong = wrong_labels(meta_steps=3 if fast else 20)
    scores, images = ten_images(meta_steps=3 if fast else 100)
    figures = {
        "pendulum": plot_angles(angles),
        "wrong_labels": plot_weights(weights, wrong),
        "ten_images": plot_images(images),
    }
    for name, figure in figures.items():
        visualization.save_figure(figure, out / f"{name}.png")
    return {"ridge": ridge, "tax": tax, "upright": upright, "auroc": auroc, "accuracy": scores}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", default="outputs/optimization_all_the_way_down", help="folder of figures"
    )
    parser.add_argument("--fast", action="store_true", help="few epochs and meta-steps")
    main(**vars(parser.parse_args()))
