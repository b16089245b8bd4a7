"""Bounds of the initializer for dense and convolution kernels, seeds, and saving."""

import keras
import numpy as np
import pytest
from contract_support import check_config, saved_and_loaded

from keras_extras.initializers import ActivationUniform

pytestmark = pytest.mark.both_backends

FACTORS = {"sigmoid": 4.0, "tanh": 1.0, "relu": np.sqrt(2.0), "silu": np.sqrt(2.0)}


@pytest.mark.parametrize("activation", FACTORS)
@pytest.mark.parametrize(
    ("shape", "fan_in", "fan_out"), [((300, 200), 300, 200), ((3, 5, 40, 60), 600, 900)]
)
def test_values_are_uniform_between_the_bounds(activation, shape, fan_in, fan_out):
    values = np.asarray(ActivationUniform(activation, seed=1)(shape)).ravel()
    limit = FACTORS[activation] * np.sqrt(6 / (fan_in + fan_out))
    # Of n uniform values the chance that none lies in the outer 1e-3 is below exp(-30).
    assert limit * 0.999 < np.abs(values).max() <= limit * (1 + 1e-6)
    shares = np.histogram(values, bins=10, range=(-limit, limit))[0] / values.size
    np.testing.assert_allclose(shares, 0.1, atol=5 * np.sqrt(0.09 / values.size))


def test_tanh_is_glorot_uniform():
    ours = ActivationUniform("tanh", seed=3)((7, 9))
    np.testing.assert_allclose(ours, keras.initializers.GlorotUniform(seed=3)((7, 9)))


def test_seeds():
    first, second = ActivationUniform("relu", seed=2), ActivationUniform("relu", seed=2)
    np.testing.assert_array_equal(first((4, 4)), second((4, 4)))
    assert not np.array_equal(first((4, 4)), ActivationUniform("relu", seed=3)((4, 4)))
    assert first.clone().get_config() == first.get_config()


def test_configuration_and_a_model_that_loads_in_safe_mode():
    check_config(ActivationUniform("silu", seed=4))
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(
                4, 3, activation="silu", kernel_initializer=ActivationUniform("silu", seed=1)
            ),
            keras.layers.Flatten(),
            keras.layers.Dense(2, "sigmoid", kernel_initializer=ActivationUniform("sigmoid")),
        ]
    )
    loaded = saved_and_loaded(model)
    assert loaded.layers[0].kernel_initializer.get_config() == {"activation": "silu", "seed": 1}
    np.testing.assert_array_equal(loaded.layers[0].kernel, model.layers[0].kernel)


def test_an_unknown_activation():
    with pytest.raises(ValueError, match=r"'sigmoid', 'tanh', 'relu', 'silu'.*activation='gelu'"):
        ActivationUniform("gelu")
