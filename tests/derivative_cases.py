"""Models, data and comparisons that the tests of derivatives share."""

import keras
import numpy as np
from keras import ops
from precision import tolerance

from keras_extras import autodiff

RNG = np.random.default_rng(4)
X = RNG.normal(size=(6, 3))
Y = RNG.normal(size=(6, 2))
CLASSES = np.eye(2)[[0, 1, 1, 0, 1, 0]]
ONES = np.column_stack([X, np.ones(6)])  # the inputs and what the bias is multiplied with
OF_DIFFERENCES = tolerance(1e-6, 1e-2)


def linear(units, activation=None, **arguments):
    dense = keras.layers.Dense(units, activation, bias_initializer="normal", **arguments)
    return keras.Sequential([keras.Input((3,)), dense])


class SquarePenalty(keras.layers.Layer):
    """Adds a mean over rows to the loss, as activity regularizers do in Keras after 3.12."""

    def call(self, inputs):
        self.add_loss(0.1 * ops.mean(inputs**2))
        return inputs


def network():
    """Two layers, of which one is regularized, and one that adds to the loss."""
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, "tanh", kernel_regularizer="l2"),
            SquarePenalty(),
            keras.layers.Dense(2, bias_initializer="normal"),
        ]
    )


def flat(tensors):
    return np.concatenate([np.ravel(tensor) for tensor in keras.tree.flatten(tensors)])


def random_like(tensors):
    return keras.tree.map_structure(lambda t: RNG.normal(size=tuple(t.shape)), tensors)


def random_vector(model, wrt):
    weights, inputs = random_like(model.trainable_variables), random_like(X)
    both = autodiff.WeightsAndInputs(weights, inputs)
    return {"weights": weights, "inputs": inputs, "both": both}[wrt]


def difference(function, model, vector):
    """How `function()` changes when the weights move along a vector, by central differences."""
    step = tolerance(1e-5, 2e-4)
    start = [np.array(variable) for variable in model.trainable_variables]

    def move(distance):
        for variable, old, part in zip(model.trainable_variables, start, vector, strict=True):
            variable.assign(old + distance * part)

    values = []
    for sign in (1, -1):
        move(sign * step)
        values.append(flat(function()))
    move(0.0)
    return (values[0] - values[1]) / (2 * step)


def assert_close(actual, expected, rtol=1e-12):
    scale = np.abs(expected).max()
    rtol = tolerance(rtol, max(rtol, 1e-5))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * scale)
