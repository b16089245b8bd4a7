"""The gradient check in single precision, which is all that Keras has on JAX."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_extras import autodiff

pytestmark = pytest.mark.both_backends

X = np.random.default_rng(8).normal(size=(4, 3))


class Square(keras.layers.Layer):
    """Squares, whose gradient is multiplied with a factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, inputs):
        @ops.custom_gradient
        def square(x):
            def gradient(*args, upstream=None):
                (upstream,) = args if upstream is None else (upstream,)
                return 2 * x * upstream * self.factor

            return x**2, gradient

        return square(inputs)


class Rounding(keras.layers.Layer):
    def call(self, inputs):
        return ops.round(inputs)


def test_right_gradients_pass_and_wrong_ones_fail():
    for factor in (1.0, 1.1):
        model = keras.Sequential([keras.layers.Dense(3, "tanh"), Square(factor)])
        report = autodiff.check_gradients(model, X, entries=3)
        assert report.tolerance == 1e-2
        assert report.passed == (factor == 1.0), report
        assert report.max_error == pytest.approx(factor - 1.0, abs=0.01)


def test_kinks_and_what_has_no_gradient_are_told_apart():
    x = np.array([[0.0, 1e-8, -0.7, 2.0]])
    report = autodiff.check_gradients(keras.layers.ReLU(), x, directions=0)
    assert report.passed, report
    assert [entry.index for entry in report.kinks] == [(0, 0), (0, 1)]
    dense, rounding = keras.layers.Dense(2), Rounding()
    model = keras.Sequential([keras.Input((3,)), dense, rounding, keras.layers.Dense(1)])
    report = autodiff.check_gradients(model, X, np.ones((4, 1)), loss="mse", entries=1)
    assert report.without_gradient == [*(v.path for v in dense.weights), "inputs"]
    assert report.blocking_layers == [rounding.name]


def test_states_are_held_fixed():
    layer = keras.layers.BatchNormalization()
    layer.build((None, 3))
    model = keras.Sequential([keras.Input((3,)), layer, keras.layers.Dropout(0.5, seed=1)])
    report = autodiff.check_gradients(model, X, training=True, entries=1)
    assert report.passed, report
    kinds = [path.rpartition("/")[2] for path in report.held_fixed]
    assert kinds == ["moving_mean", "moving_variance", "seed_generator_state"]
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(3))
