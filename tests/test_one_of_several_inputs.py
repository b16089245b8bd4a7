"""Derivatives by one of several inputs, and losses with and without penalties."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_extras import autodiff
from keras_extras import layers as derivative_layers

pytestmark = pytest.mark.both_backends

RNG = np.random.default_rng(3)
IDS = np.array([[0], [2], [1], [2]])
A, B = RNG.normal(size=(4, 2)).astype("float32"), RNG.normal(size=(4, 3)).astype("float32")
Y = RNG.normal(size=(4, 1)).astype("float32")


def product():
    """f = sum(a) * sum(b**2), of inputs named "a" and "b"."""
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    outputs = layers.Multiply()([Summed()(a), Summed()(layers.Multiply()([b, b]))])
    return keras.Model([a, b], outputs)


class Summed(layers.Layer):
    def call(self, inputs):
        return ops.sum(inputs, axis=-1, keepdims=True)


@pytest.mark.parametrize("wrt", ["b", 1])
@pytest.mark.parametrize("as_dict", [False, True])
def test_derivatives_by_one_input_are_closed_forms(wrt, as_dict):
    model, x = product(), {"a": A, "b": B} if as_dict else [A, B]
    total = A.sum(axis=1)
    expected = 2 * total[:, None] * B
    jacobian = autodiff.jacobian(model, x, wrt=wrt)
    np.testing.assert_allclose(jacobian[:, 0], expected, rtol=1e-5)
    forward = autodiff.jacobian_vector_product(model, x, np.ones_like(B), wrt=wrt)
    np.testing.assert_allclose(forward[:, 0], expected.sum(axis=1), rtol=1e-4)
    back = autodiff.vector_jacobian_product(model, x, np.ones((4, 1)), wrt=wrt)
    np.testing.assert_allclose(back, expected, rtol=1e-5)

    def outputs(y_true, y_pred):
        return y_pred[:, 0]

    data = {"x": x, "y": Y, "loss": outputs, "wrt": wrt}
    np.testing.assert_allclose(autodiff.gradient(model, **data), expected / 4, rtol=1e-5)
    curved = autodiff.hessian_vector_product(model, vector=np.ones_like(B), **data)
    np.testing.assert_allclose(curved, 2 * total[:, None] / 4 * np.ones_like(B), rtol=1e-5)
    diagonal = np.diag(autodiff.hessian(model, **data))
    np.testing.assert_allclose(diagonal, np.repeat(total / 2, 3), rtol=1e-5)
    assert autodiff.check_gradients(model, x, wrt=wrt, entries=2).passed


def test_the_input_of_floats_beside_one_of_integers():
    ids, a = keras.Input((1,), name="ids"), keras.Input((2,), name="a")
    joined = layers.Concatenate()([layers.Flatten()(layers.Embedding(3, 2)(ids)), a])
    model = keras.Model({"ids": ids, "a": a}, layers.Dense(1)(joined))
    x = {"ids": IDS, "a": A}
    kernel = np.asarray(model.trainable_variables[1])
    jacobian = autodiff.jacobian(model, x, wrt="a")
    np.testing.assert_allclose(jacobian[:, 0], np.tile(kernel[2:, 0], (4, 1)), rtol=1e-6)
    with pytest.raises(ValueError, match="or the name or position of one input"):
        autodiff.jacobian(model, x, wrt="inputs")
    with pytest.raises(ValueError, match="Inputs of integers have no derivative"):
        autodiff.jacobian(model, x, wrt="ids")
    for wrt in ("c", 2, -1, True, None, 0.5):
        with pytest.raises(ValueError, match=r"`wrt` must be one of 'weights'.*'ids'"):
            autodiff.jacobian(model, x, wrt=wrt)


def test_penalties_are_left_out_on_request():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, kernel_regularizer="l2")])
    plain = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    plain.set_weights(model.get_weights())
    data = {"x": A, "y": Y, "loss": "mse"}
    vector = [np.ones((2, 1)), np.ones(1)]
    for derivative in (
        lambda m, **a: autodiff.gradient(m, **data, **a),
        lambda m, **a: [autodiff.hessian(m, **data, **a)],
        lambda m, **a: autodiff.hessian_vector_product(m, vector=vector, **data, **a),
        lambda m, **a: autodiff.gauss_newton_vector_product(m, vector=vector, **data, **a),
    ):
        without, penalized = derivative(model, penalties=False), derivative(model)
        for part, expected, _ in zip(without, derivative(plain), penalized, strict=True):
            np.testing.assert_allclose(part, expected, rtol=1e-5)
        assert np.abs(np.asarray(penalized[0]) - np.asarray(without[0])).max() > 1e-3
    assert autodiff.check_gradients(model, **data, penalties=False, entries=2).passed
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="`penalties=False` needs `loss`"):
        autodiff.gradient(model, A, Y, penalties=False)


def critic():
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    hidden = layers.Dense(4, "tanh")(layers.Concatenate()([a, b]))
    return keras.Model([a, b], layers.Dense(1)(hidden))


def added_loss(layer, inputs):
    layer(inputs)
    (loss,) = layer.losses
    return float(loss)


@pytest.mark.parametrize("wrt", [None, "a", "b", 1])
def test_the_penalty_of_a_critic_of_two_inputs_is_that_of_its_gradient(wrt):
    network = critic()
    of_a, of_b = (autodiff.jacobian(network, [A, B], wrt=name)[:, 0] for name in "ab")
    parts = {None: [of_a, of_b], "a": [of_a], "b": [of_b], 1: [of_b]}[wrt]
    norms = np.sqrt(np.sum(np.square(np.concatenate(parts, axis=1)), axis=1))
    penalty = derivative_layers.GradientPenalty(network, weight=10.0, target_norm=1.0, wrt=wrt)
    found = added_loss(penalty, [A, B])
    np.testing.assert_allclose(found, 10 * np.mean((norms - 1) ** 2), rtol=1e-4)
    x = keras.Input((2,)), keras.Input((3,))
    model = keras.Model(x, penalty(list(x)))
    model.compile("sgd", "mse")
    assert model.evaluate([A, B], network.predict([A, B], verbose=0), verbose=0) == pytest.approx(
        found, rel=1e-4
    )
    model.fit([A, B], Y, verbose=0)


def test_derivatives_along_and_by_one_of_two_inputs():
    network = critic()
    of_b = autodiff.jacobian(network, [A, B], wrt="b")[:, 0]
    sobolev = derivative_layers.SobolevTraining(network, wrt="b")
    np.testing.assert_allclose(sobolev([A, B])["derivative"], of_b, rtol=1e-5)
    direction = np.eye(3, dtype="float32")[:1]
    penalty = derivative_layers.SensitivityPenalty(network, direction, wrt=1)
    np.testing.assert_allclose(
        added_loss(penalty, [A, B]), np.mean(np.square(of_b[:, 0])), rtol=1e-5
    )
    restored = derivative_layers.SobolevTraining.from_config(sobolev.get_config())
    assert restored.wrt == "b"
    for layer in (
        derivative_layers.SobolevTraining(network),
        derivative_layers.SensitivityPenalty(network, direction),
    ):
        with pytest.raises(ValueError, match="needs `wrt`, the name or position"):
            layer([A, B])
    with pytest.raises(
        ValueError, match="`wrt` must be the name or position of an input, 'a', 'b', 0, 1"
    ):
        derivative_layers.GradientPenalty(network, wrt="c")([A, B])
    with pytest.raises(TypeError, match="`wrt` must be the name or position"):
        derivative_layers.GradientPenalty(network, wrt=1.5)


def test_integers_beside_floats_are_held_fixed():
    ids, a = keras.Input((1,), dtype="int32"), keras.Input((2,))
    joined = layers.Concatenate()([layers.Flatten()(layers.Embedding(3, 2)(ids)), a])
    network = keras.Model([ids, a], layers.Dense(1)(joined))
    kernel = np.asarray(network.trainable_variables[1])[2:]
    found = added_loss(derivative_layers.GradientPenalty(network), [IDS.astype("int32"), A])
    np.testing.assert_allclose(found, np.sum(kernel**2), rtol=1e-5)
