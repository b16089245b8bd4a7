"""The curvature in closed form by the last Dense layer, against all derivatives in full."""

import keras
import numpy as np
import pytest
from keras import ops
from probability import jacobians, tfd

from keras_extras import layers
from keras_extras.inference import LaplaceApproximation
from keras_extras.inference.last_dense import last_dense
from keras_extras.inference.weight_function import WeightFunction

pytestmark = pytest.mark.both_backends(cases=0)


_RNG = np.random.default_rng(0)
_X = _RNG.normal(size=(30, 3)).astype("float32")


class Scaled(keras.layers.Layer):
    """Uses the weights of another layer before it is called."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return inputs * keras.ops.sum(self.layer.kernel)


def of_classes(p):
    return tfd.OneHotCategorical(probs=p)


def softmax_network(hidden, classes, **arguments):
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(hidden, activation="tanh"),
            keras.layers.Dense(classes, **arguments),
            layers.OneHotCategorical(classes),
        ]
    )


def with_probabilities():
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.Dense(7, activation="softmax"),
        ]
    )


def with_a_skip_connection():
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="tanh")(inputs)
    total = keras.layers.Dense(5)(hidden) + keras.layers.Dense(5)(inputs)
    return keras.Model(inputs, layers.OneHotCategorical(5)(total))


def with_shared_weights():
    last = keras.layers.Dense(5)
    last.build((None, 4))
    hidden = keras.layers.Dense(4, activation="tanh")
    head = layers.OneHotCategorical(5)
    return keras.Sequential([keras.Input((3,)), hidden, Scaled(last), last, head])


def with_frozen_outputs():
    model = softmax_network(4, 6)
    model.layers[0].activation = keras.activations.linear
    model.layers[1].trainable = False
    return model


def made_backwards():
    """The weights of the last layer come first."""

    class Backwards(keras.Model):
        def __init__(self):
            super().__init__()
            self.last, self.first = keras.layers.Dense(6), keras.layers.Dense(4, "tanh")
            self.head = layers.OneHotCategorical(6)

        def call(self, inputs):
            return self.head(self.last(self.first(inputs)))

    model = Backwards()
    model(_X)
    return model


_CASES = {
    "more classes than features": (softmax_network(4, 9), None, True),
    "fewer classes": (softmax_network(9, 3, use_bias=False), None, True),
    "probabilities": (with_probabilities(), of_classes, True),
    "made backwards": (made_backwards(), None, True),
    "frozen outputs": (with_frozen_outputs(), None, True),
    "skip connection": (with_a_skip_connection(), None, False),
    "shared weights": (with_shared_weights(), None, False),
}


@pytest.mark.parametrize("name", _CASES)
def test_the_curvature_is_that_of_all_derivatives(name):
    model, likelihood, has_last_dense = _CASES[name]
    for variable in model.trainable_variables:
        variable.assign_add(0.5 * _RNG.normal(size=variable.shape))
    function = WeightFunction(model, _X, likelihood)
    weights = [np.asarray(variable) for variable in function.variables]
    assert (last_dense(function, weights, _X[:1]) is not None) == has_last_dense
    outputs = function.parameters(None, (), _X)
    parts = jacobians(lambda values: function.parameters(values, (), _X), function.variables)
    num_classes = outputs.shape[1]
    jacobian = np.concatenate([np.reshape(part, (30, num_classes, -1)) for part in parts], axis=2)
    p = np.asarray(outputs if likelihood else ops.softmax(outputs), "float64")
    information = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    if likelihood:  # Probabilities are normalized: by their logarithms the information is that.
        information /= p[:, :, None] * p[:, None, :]
    expected = np.einsum("npd,npq,nqe->de", jacobian, information, jacobian)
    y = np.eye(num_classes, dtype="float32")[_RNG.integers(0, num_classes, 30)]
    full, diagonal = (
        LaplaceApproximation(
            model, _X, y, hessian_structure=structure, likelihood=likelihood, batch_size=16
        )._matrix
        for structure in ("full", "diag")
    )
    tolerance = {"rtol": 0.0, "atol": 1e-5 * np.abs(expected).max()}
    np.testing.assert_allclose(full, expected, **tolerance)
    np.testing.assert_allclose(diagonal, np.diag(expected), **tolerance)


def test_predictions_move_along_the_derivatives():
    model, likelihood, _ = _CASES["probabilities"]
    function = WeightFunction(model, _X, likelihood)
    y = np.eye(7, dtype="float32")[_RNG.integers(0, 7, 30)]
    laplace = LaplaceApproximation(model, _X, y, likelihood=likelihood)
    offsets = [1e-3 * _RNG.normal(size=(2, *v.shape)).astype("float32") for v in laplace.mode]
    moved = laplace._network.parameters(laplace.mode, offsets, _X, 8)
    for number in range(2):
        weights = [v + offset[number] for v, offset in zip(laplace.mode, offsets)]
        expected = function.parameters(list(map(ops.convert_to_tensor, weights)), (), _X)
        np.testing.assert_allclose(moved[number], expected, atol=2e-5)


@pytest.mark.parametrize("precision", [1e-9, 0.1, 30.0])
def test_draws_have_the_covariance_of_the_posterior(precision):
    """By Cholesky's factors, and by eigenvectors where the prior is weak beside the data."""
    model = softmax_network(2, 3)
    y = np.eye(3, dtype="float32")[_RNG.integers(0, 3, 30)]
    laplace = LaplaceApproximation(model, _X, y, prior_stddev=precision**-0.5)
    values, vectors = np.linalg.eigh(laplace._matrix)
    covariance = (vectors / (np.maximum(values, 0.0) + precision)) @ vectors.T
    stddev = np.concatenate([np.ravel(part) for part in laplace.stddev()])
    np.testing.assert_allclose(stddev**2, np.diag(covariance), rtol=1e-3)
    draws = laplace.sample_offsets(20_000, np.random.default_rng(0))
    flat = np.concatenate([part.reshape(20_000, -1) for part in draws], axis=1)
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    np.testing.assert_allclose(np.cov(flat.T) / scale, covariance / scale, atol=0.05)
