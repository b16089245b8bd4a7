"""The schedule's values, in `fit` and after loading."""

import keras
import numpy as np
import pytest
from contract_support import saved_and_loaded

from keras_extras.optimizers.schedules import PowerDecay

pytestmark = pytest.mark.both_backends


def test_values_are_those_of_the_formula_and_of_keras_exponential_decay():
    schedule = PowerDecay(0.1, epsilon=0.3, steps_per_epoch=4)
    steps = np.arange(13)
    rates = [float(schedule(step)) for step in steps]
    np.testing.assert_allclose(rates, 0.1 ** (1 + steps // 4 * 0.3), rtol=1e-6)
    same = keras.optimizers.schedules.ExponentialDecay(0.1, 4, 0.1**0.3, staircase=True)
    np.testing.assert_allclose(rates, [float(same(step)) for step in steps], rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_rates_in_fit_and_after_loading(jit_compile):
    schedule = PowerDecay(0.1, epsilon=0.5, steps_per_epoch=3, name="decay")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(schedule), "mse", jit_compile=jit_compile)
    x = np.ones((12, 2), "float32")
    model.fit(x, x[:, :1], batch_size=4, epochs=2, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1**2, rel=1e-5)
    loaded = saved_and_loaded(model)
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.1**2, rel=1e-5)
    loaded.fit(x, x[:, :1], batch_size=4, epochs=1, verbose=0)
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.1**2.5, rel=1e-5)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert restored.get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1.5, 0.1, 10), ValueError, r"`initial_learning_rate` must lie in \(0, 1\)"),
        ((0.0, 0.1, 10), ValueError, r"`initial_learning_rate` must lie in \(0, 1\)"),
        ((0.1, -0.1, 10), ValueError, "`epsilon` must be at least 0"),
        ((0.1, 0.1, 0), ValueError, "`steps_per_epoch` must be at least 1"),
        ((0.1, 0.1, 2.5), TypeError, "`steps_per_epoch` must be an integer"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        PowerDecay(*arguments)
