"""Other libraries that wrap the same methods as we do, before us and after us."""

import functools
import subprocess
import sys

import pytest

from keras_extras._seams.wrapped_methods import is_wrapped, wrap_once

# Wraps methods, runs `make`, wraps them again, and trains.
FOREIGN = """
import functools
import keras
import numpy as np

calls = []

def wrap(owner, name, with_wraps=True):
    stock = getattr(owner, name)
    def wrapper(*args, **kwargs):
        calls.append(name)
        return stock(*args, **kwargs)
    setattr(owner, name, functools.wraps(stock)(wrapper) if with_wraps else wrapper)

def owner_of(name):
    return next(cls for cls in keras.Model.__mro__ if name in vars(cls))

def wrap_all(with_wraps=True):
    for name in ("train_step", "test_step", "make_train_function", "fit", "compute_loss",
                 "compute_metrics"):
        wrap(owner_of(name), name, with_wraps)

x = np.linspace(-1.0, 1.0, 32, dtype="float32").reshape(8, 4)
y = x.sum(axis=1, keepdims=True)

def train(optimizer, loss="mse"):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer, loss)
    history = model.fit(x, y, batch_size=8, epochs=2, verbose=0).history
    return history
"""

TRAINING = """
wrap_all()
from keras_extras import optimizers
plain = train("adam")
for with_wraps in (True, False):
    history = train(optimizers.LBFGS())
    assert history["loss"][-1] < 1e-6, history
    assert "evaluations" in history
    optimizer = optimizers.MonteCarloOptimizer(population_size=4)
    train(optimizer)
    sizes = [v for v in optimizer.variables if v.name == "training_set_size"]
    assert [float(keras.ops.convert_to_numpy(v)) for v in sizes] == [8.0]
    wrap_all(with_wraps)
assert train("adam")["loss"] == plain["loss"]
assert "fit" in calls and "make_train_function" in calls
"""

TUNING = """
from keras_tuner.engine.base_tuner import BaseTuner
wrap(BaseTuner, "__init__")
from keras_extras._seams.wrapped_methods import is_wrapped
from keras_extras import tuners
from keras_extras.tuners.reload_hook import install_reload_hook
assert not is_wrapped(BaseTuner.__init__)
install_reload_hook(tuners.TabularHyperModel)
assert is_wrapped(BaseTuner.__init__)
wrap(BaseTuner, "__init__")
before = BaseTuner.__init__
install_reload_hook(tuners.TabularHyperModel)
assert BaseTuner.__init__ is before
"""


@pytest.mark.both_backends
def test_training_beside_other_wrappers():
    subprocess.run([sys.executable, "-c", FOREIGN + TRAINING], check=True)


def test_tuners_beside_other_wrappers():
    subprocess.run([sys.executable, "-c", FOREIGN + TUNING], check=True)


@pytest.mark.both_backends
def test_ours_is_known_by_its_identity():
    class Owner:
        def method(self):
            return 1

    def wrap(stock):
        return lambda self: stock(self) + 1

    stock = Owner.method
    Owner.method = functools.wraps(stock)(lambda self: 10 * stock(self))
    for expected in (11, 110, 1100):
        wrap_once(Owner, "method", wrap)
        assert is_wrapped(Owner.method)
        assert Owner().method() == expected
        before = Owner.method
        Owner.method = functools.wraps(before)(lambda self, before=before: 10 * before(self))
    Owner.method = stock
    wrap_once(Owner, "method", wrap)
    assert Owner().method() == 2
