"""Problems that a newcomer tries first: few rows, a small network, one batch."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from sklearn import datasets

import keras_extras


class Problem(NamedTuple):
    """Rows, targets, the layers of a network, and a loss.

    Attributes:
        x: Array of inputs.
        y: Array of targets.
        layers: Function without arguments that returns new layers.
        loss: Keras loss.
        is_differentiable: Boolean, whether the loss has a gradient.
    """

    x: np.ndarray
    y: np.ndarray
    layers: Callable[[], list]
    loss: Callable
    is_differentiable: bool = True

    def model(self, seed: int) -> keras.Model:
        """Returns the network with the weights that every method starts from."""
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input(self.x.shape[1:]), *self.layers()])
        model.compile(loss=self.loss)
        return model


def standardized(values):
    return ((values - values.mean(0)) / values.std(0)).astype("float32")


def perceptron(*units: int, activation: str = "relu") -> Callable[[], list]:
    hidden, last = units[:-1], units[-1]
    return lambda: [layers.Dense(n, activation) for n in hidden] + [layers.Dense(last)]


def _classes(load, *units):
    x, y = load(return_X_y=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Problem(standardized(x), y.astype("int32"), perceptron(*units), loss)


def iris():
    return _classes(datasets.load_iris, 8, 3)


def wine():
    return _classes(datasets.load_wine, 8, 3)


def _cancer(loss, *units, is_differentiable=True):
    x, y = datasets.load_breast_cancer(return_X_y=True)
    y = y[:, None].astype("float32")
    return Problem(standardized(x), y, perceptron(*units), loss, is_differentiable)


def breast_cancer():
    return _cancer(keras.losses.BinaryCrossentropy(from_logits=True), 8, 1)


def zero_one():
    return _cancer(keras_extras.losses.ZeroOneLoss(threshold=0.0), 1, is_differentiable=False)


def sine():
    x = np.linspace(-3, 3, 200, dtype="float32")[:, None]
    loss = keras.losses.MeanSquaredError()
    return Problem(x, np.sin(2 * x), perceptron(16, 1, activation="tanh"), loss)


def rare_class():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6)).astype("float32")
    y = (x[:, :3] ** 2).sum(1, keepdims=True) + 0.3 * rng.normal(size=(500, 1)) > 6.5
    loss = keras_extras.losses.F1Loss(threshold=0.0)
    return Problem(x, y.astype("float32"), perceptron(8, 1), loss, False)


def digits():
    x, y = datasets.load_digits(return_X_y=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Problem((x / 16).astype("float32"), y.astype("int32"), perceptron(32, 10), loss)


def xor():
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
    y = np.array([[0], [1], [1], [0]], "float32")
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return Problem(x, y, perceptron(4, 1, activation="tanh"), loss)


def diabetes():
    x, y = datasets.load_diabetes(return_X_y=True)
    loss = keras.losses.MeanSquaredError()
    return Problem(standardized(x), standardized(y[:, None]), perceptron(16, 1), loss)


def convolution():
    x, y, _, loss, _ = digits()
    images = x.reshape(-1, 8, 8, 1)[:400]
    return Problem(
        images,
        y[:400],
        lambda: [
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ],
        loss,
    )


def lstm():
    t = np.arange(110)
    series = (np.sin(t / 5) + 0.5 * np.sin(t / 2.3)).astype("float32")
    windows = np.stack([series[i : i + 10] for i in range(100)])[..., None]
    return Problem(
        windows,
        series[10:110, None],
        lambda: [layers.LSTM(6, return_sequences=True), layers.LSTM(6), layers.Dense(1)],
        keras.losses.MeanSquaredError(),
    )


PROBLEMS = {
    problem.__name__: problem
    for problem in (
        iris,
        breast_cancer,
        wine,
        sine,
        zero_one,
        rare_class,
        digits,
        xor,
        diabetes,
        convolution,
        lstm,
    )
}
