"""Derivatives that are compiled once for a model, and those of recurrent layers."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras import autodiff
from keras_extras.autodiff import chunked_map

layers = keras.layers
X = np.random.default_rng(0).normal(size=(4, 3, 2))
X[1, 2:] = 0.0  # behind a mask
Y = np.zeros((4, 1))


@pytest.fixture
def double_precision():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def recurrent(layer):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3, 2)), layers.Masking(), layer, layers.Flatten()])
    model.add(layers.Dense(1))
    model.compile("sgd", "mse")
    return model


def slope(model, function, direction, step=1e-5):
    """The derivative of a function of the model's weights along a direction, by differences."""
    values = []
    weights = [np.asarray(v) for v in model.trainable_variables]
    for sign in (1, -1):
        for v, weight, part in zip(model.trainable_variables, weights, direction):
            v.assign(weight + sign * step * part)
        values.append(function())
    for v, weight in zip(model.trainable_variables, weights):
        v.assign(weight)
    return (values[0] - values[1]) / (2 * step)


def flat(parts, rows=1):
    return np.concatenate([np.reshape(part, (rows, -1)) for part in parts], axis=1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.GRU(1),
        lambda: layers.SimpleRNN(1, recurrent_dropout=0.5),
    ],
    ids=["GRU", "recurrent_dropout"],
)
def test_derivatives_of_recurrent_layers(double_precision, make):
    model = recurrent(make())
    draw = np.random.default_rng(1).normal
    direction = [draw(size=v.shape) for v in model.trainable_variables]
    along = flat(direction)[0]
    move = slope(model, lambda: np.asarray(model(X)), direction)
    inside = tf.function(
        lambda x: autodiff.jacobian_vector_product(model, x, direction), autograph=False
    )
    np.testing.assert_allclose(inside(tf.constant(X)), move, atol=1e-7)
    columns = autodiff.jacobian(model, X, mode="forward")
    np.testing.assert_allclose(flat(columns, 4) @ along, move[:, 0], atol=1e-7)
    turn = slope(model, lambda: flat(autodiff.gradient(model, X, Y)), direction)[0]
    np.testing.assert_allclose(np.asarray(autodiff.hessian(model, X, Y)) @ along, turn, atol=1e-7)


def test_an_lstm_is_told_of_once_and_compiled_once(caplog):
    model = recurrent(layers.LSTM(1))
    first = autodiff.hessian(model, X, Y)
    (compiled,) = chunked_map._kept[model].values()
    second = autodiff.hessian(model, X, Y)
    np.testing.assert_array_equal(first, second)
    (again,) = chunked_map._kept[model].values()
    assert again is compiled
    (record,) = [r for r in caplog.records if r.name == "keras_extras"]
    assert "one after another" in record.getMessage()


def changes():
    def more(model):
        model.layers[0].activation = keras.activations.softplus

    def fewer(model):
        model.layers[0].trainable = False

    def trained(model):
        model.trainable_variables[0].assign_add(model.trainable_variables[0])

    def other_loss(model):
        model.compile("sgd", "mae" if model.loss == "mse" else "mse")

    def statistics(model):
        model.layers[1].moving_variance.assign([4.0, 4.0])

    return [more, fewer, trained, other_loss, statistics]


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.__name__)
def test_changes_of_a_model_change_its_derivatives(change):
    def make():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((2,)), layers.Dense(2, "tanh")])
        model.add(layers.BatchNormalization())
        model.add(layers.Dense(1))
        model.compile("sgd", "mse")
        return model

    x = X[:, 0]
    model, fresh = make(), make()
    before = np.asarray(autodiff.hessian(model, x, Y))
    change(model)
    change(fresh)
    after = np.asarray(autodiff.hessian(model, x, Y))
    np.testing.assert_allclose(after, autodiff.hessian(fresh, x, Y), atol=1e-6)
    assert not np.array_equal(before, after)


def test_what_is_compiled_keeps_no_model():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    autodiff.jacobian(model, X[:, 0])
    (kept,) = [v for m, v in chunked_map._kept.items() if m is model]
    assert len(kept) == 1
    reference = weakref.ref(model)
    del model, kept
    keras.backend.clear_session()
    gc.collect()
    assert reference() is None
