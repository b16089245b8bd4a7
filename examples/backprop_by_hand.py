"""Backpropagation by hand: every number of two small networks, derived, then checked three ways.

The first network has two inputs, two hidden and two output units, all sigmoid, with the numbers
of a widespread worked example. One step of gradient descent is written out unit by unit, with
the chain rule and nothing else. The second has two hidden layers (2-2-2-1): the derivative of its
first weight is summed over the paths through the network, and all others follow by the recursion
that backpropagation is named for. Each gradient is compared with what Keras computes and with
central differences of the loss, and the first network is then trained on by hand.

    python examples/backprop_by_hand.py
    python examples/backprop_by_hand.py --steps 1000
    python examples/backprop_by_hand.py --fast          # a smoke test of a few seconds
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from keras_extras import visualization

RATE = 0.5
WEIGHTS = np.array([0.15, 0.20, 0.25, 0.30, 0.40, 0.45, 0.50, 0.55])  # w1 to w8


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def check(name: str, value: float, expected: float) -> None:
    """Prints a number of the lesson, which must be the expected one to four digits."""
    print(f"  {name:12} {value:9.6f}")
    assert round(float(value), 4) == expected, f"{name} is {value}, not {expected}"


def central_differences(
    loss_of: Callable[[np.ndarray], float], weights: np.ndarray, step: float
) -> np.ndarray:
    """The slope of the loss along each weight, from two evaluations on either side."""
    slopes = np.zeros_like(weights)
    for index in np.ndindex(weights.shape):
        nudge = np.zeros_like(weights)
        nudge[index] = step
        slopes[index] = (loss_of(weights + nudge) - loss_of(weights - nudge)) / (2 * step)
    return slopes


def keras_gradients(
    kernels: Sequence[np.ndarray], biases: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray
) -> list[np.ndarray]:
    """The gradients with respect to the kernels, from one step of stock SGD."""
    sizes = [kernel.shape[1] for kernel in kernels]
    model = keras.Sequential(
        [
            keras.Input((len(x),), dtype="float64"),
            *(keras.layers.Dense(size, "sigmoid", dtype="float64") for size in sizes),
        ]
    )
    before = [weight for pair in zip(kernels, biases) for weight in pair]
    model.set_weights(before)
    model.compile(
        keras.optimizers.SGD(RATE),
        lambda y_true, y_pred: keras.ops.sum((y_true - y_pred) ** 2, axis=-1) / 2,
    )
    model.train_on_batch(x[None], y[None])
    return [(old - new) / RATE for old, new in zip(before, model.get_weights())][::2]


def worked_example() -> dict[str, float]:
    """One step on the 2-2-2 network, unit by unit; how far others' gradients are from it."""
    x1, x2 = 0.05, 0.10
    y1, y2 = 0.01, 0.99
    w1, w2, w3, w4, w5, w6, w7, w8 = WEIGHTS
    b1, b2 = 0.35, 0.60

    print("Forward: the input of a unit is a weighted sum, its output the sigmoid of that.")
    in_h1 = w1 * x1 + w2 * x2 + b1
    in_h2 = w3 * x1 + w4 * x2 + b1
    h1, h2 = sigmoid(in_h1), sigmoid(in_h2)
    o1 = sigmoid(w5 * h1 + w6 * h2 + b2)
    o2 = sigmoid(w7 * h1 + w8 * h2 + b2)
    loss = ((y1 - o1) ** 2 + (y2 - o2) ** 2) / 2
    check("in_h1", in_h1, 0.3775)
    check("out_h1", h1, 0.5933)
    check("out_h2", h2, 0.5969)
    check("out_o1", o1, 0.7514)
    check("out_o2", o2, 0.7729)
    check("loss", loss, 0.2984)

    print("Backward: delta = dL/d(input of a unit). The sigmoid s has the slope s (1 - s).")
    delta_o1 = (o1 - y1) * o1 * (1 - o1)
    delta_o2 = (o2 - y2) * o2 * (1 - o2)
    # A hidden unit acts on the loss through both outputs: their deltas, through the weights.
    delta_h1 = (w5 * delta_o1 + w7 * delta_o2) * h1 * (1 - h1)
    delta_h2 = (w6 * delta_o1 + w8 * delta_o2) * h2 * (1 - h2)
    check("delta_o1", delta_o1, 0.1385)
    check("delta_o2", delta_o2, -0.0381)
    check("delta_h1", delta_h1, 0.0088)
    check("delta_h2", delta_h2, 0.0100)

    print("Gradient: delta of the unit that a weight leads to, times what enters the weight.")
    gradient = np.array(
        [
            delta_h1 * x1,
            delta_h1 * x2,
            delta_h2 * x1,
            delta_h2 * x2,
            delta_o1 * h1,
            delta_o1 * h2,
            delta_o2 * h1,
            delta_o2 * h2,
        ]
    )
    check("dL/dw1", gradient[0], 0.0004)
    check("dL/dw5", gradient[4], 0.0822)

    print(f"Update: a step of {RATE} against the gradient.")
    updated = WEIGHTS - RATE * gradient
    expected = (0.1498, 0.1996, 0.2498, 0.2995, 0.3589, 0.4087, 0.5113, 0.5614)
    for number, (value, known) in enumerate(zip(updated, expected), start=1):
        check(f"new w{number}", value, known)

    x, y = np.array([x1, x2]), np.array([y1, y2])
    kernels = [np.array([[w1, w3], [w2, w4]]), np.array([[w5, w7], [w6, w8]])]
    by_keras = keras_gradients(kernels, [np.full(2, b1), np.full(2, b2)], x, y)
    np.testing.assert_allclose(loss_and_gradient(WEIGHTS)[1], gradient, rtol=1e-12)
    return {
        "Keras": np.abs(np.concatenate([g.T.ravel() for g in by_keras]) - gradient).max(),
        "central differences": np.abs(differences(1e-5) - gradient).max(),
    }


def differences(step: float) -> np.ndarray:
    """The gradient of the first network by central differences."""
    return central_differences(lambda weights: loss_and_gradient(weights)[0], WEIGHTS, step)


def loss_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
    """The same formulas in matrices: row i of a matrix holds the weights into unit i."""
    x, y = np.array([0.05, 0.10]), np.array([0.01, 0.99])
    hidden, output = weights.reshape(2, 2, 2)
    h = sigmoid(hidden @ x + 0.35)
    o = sigmoid(output @ h + 0.60)
    delta_o = (o - y) * o * (1 - o)
    delta_h = (output.T @ delta_o) * h * (1 - h)
    gradient = np.stack([np.outer(delta_h, x), np.outer(delta_o, h)])
    return float(np.sum((y - o) ** 2) / 2), gradient.ravel()


def deeper_network() -> dict[str, float]:
    """The 2-2-2-1 network: the first weight by its paths, all weights by the recursion."""
    x, y = np.array([0.4, -0.7]), np.array([0.8])
    kernels = [
        np.array([[0.3, -0.2], [0.5, 0.9]]),
        np.array([[-0.6, 0.8], [0.4, 0.1]]),
        np.array([[0.7], [-0.5]]),
    ]
    biases = [np.array([0.1, -0.1]), np.array([0.2, 0.0]), np.array([-0.3])]

    def forward(kernels):
        outputs = [x]
        for kernel, bias in zip(kernels, biases):
            outputs.append(sigmoid(outputs[-1] @ kernel + bias))
        return outputs

    def loss_of(flat):
        parts = np.split(flat, np.cumsum([kernel.size for kernel in kernels])[:-1])
        shaped = [part.reshape(kernel.shape) for part, kernel in zip(parts, kernels)]
        return float(np.sum((y - forward(shaped)[-1]) ** 2) / 2)

    _, g, h, o = forward(kernels)
    slopes = [s * (1 - s) for s in (g, h, o)]

    # The first weight leads to g[0]. From there the loss is reached through h[0] and through h[1].
    paths = [
        (o[0] - y[0]) * slopes[2][0] * kernels[2][j, 0] * slopes[1][j] * kernels[1][0, j]
        for j in range(2)
    ]
    first = x[0] * slopes[0][0] * sum(paths)

    deltas = [(o - y) * slopes[2]]
    for kernel, slope in ((kernels[2], slopes[1]), (kernels[1], slopes[0])):
        deltas.insert(0, (kernel @ deltas[0]) * slope)
    gradients = [np.outer(below, delta) for below, delta in zip((x, g, h), deltas)]
    assert np.isclose(gradients[0][0, 0], first, rtol=1e-12)

    print("2-2-2-1: dL/dw of the first weight, as the sum over its paths through the network")
    print(f"  {' + '.join(f'{x[0] * slopes[0][0] * path:.8f}' for path in paths)} = {first:.8f}")
    flat = np.concatenate([gradient.ravel() for gradient in gradients])
    weights = np.concatenate([kernel.ravel() for kernel in kernels])
    by_keras = keras_gradients(kernels, biases, x, y)
    return {
        "Keras": np.abs(np.concatenate([g.ravel() for g in by_keras]) - flat).max(),
        "central differences": np.abs(central_differences(loss_of, weights, 1e-5) - flat).max(),
    }


def train_on(steps: int) -> list[float]:
    """The losses of gradient descent with the formulas above."""
    weights = WEIGHTS
    losses = []
    for _ in range(steps):
        loss, gradient = loss_and_gradient(weights)
        losses.append(loss)
        weights = weights - RATE * gradient
    return losses


def plot_errors() -> Any:
    """How far central differences are from the gradient, for steps of many sizes."""
    gradient = loss_and_gradient(WEIGHTS)[1]
    steps = np.logspace(-12, 0, 49)
    ax = visualization.figures.make_axes(None, 7, 4)
    ax.loglog(steps, [np.abs(differences(step) - gradient).max() for step in steps])
    ax.set(xlabel="step of the central difference", ylabel="greatest error of a derivative")
    return ax.figure


def main(
    steps: int = 10_000, out: str | Path = "outputs/backprop_by_hand", fast: bool = False
) -> dict[str, dict[str, float]]:
    """Runs the lesson and returns how far its gradients are from those computed otherwise."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    errors = {"2-2-2": worked_example(), "2-2-2-1": deeper_network()}

    print("Greatest difference of a derivative by hand from")
    for network, found in errors.items():
        for method, error in found.items():
            print(f"  {network:8} {method:20} {error:.1e}")
            assert error < 1e-7, f"{method} and the derivation by hand disagree"

    losses = train_on(50 if fast else steps)
    print(f"The loss falls from {losses[0]:.4f} to {losses[-1]:.8f} in {len(losses)} steps.")
    history = visualization.plot_history({"by hand": {"loss": losses}})
    history.axes[0].set(xlabel="step")
    visualization.save_figure(history, out / "loss.png")
    visualization.save_figure(plot_errors(), out / "central_differences.png")
    print(f"Written to {out}: loss.png, central_differences.png")
    return errors


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10_000, help="of training by hand")
    parser.add_argument("--out", default="outputs/backprop_by_hand", help="folder for figures")
    parser.add_argument("--fast", action="store_true", help="few steps")
    main(**vars(parser.parse_args()))
