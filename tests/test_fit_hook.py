"""The canary of the seam by which optimizers take the steps of `fit`: fails when Keras moves it."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_extras.optimizers import CMAES, LBFGS, HypergradientSGD, MonteCarloOptimizer

X = np.linspace(-1, 1, 32, dtype="float32").reshape(8, 4)
Y = X.sum(axis=1, keepdims=True)


def small_model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


def trainer_class():
    return next(cls for cls in keras.Model.__mro__ if "train_step" in vars(cls))


@pytest.mark.both_backends
def test_the_trainer_has_what_the_seam_wraps_and_uses():
    trainer = trainer_class()
    assert trainer is not keras.Model
    assert "make_train_function" in vars(trainer)
    model = small_model()
    model.compile("sgd", "mse")
    assert isinstance(model._loss_tracker, keras.metrics.Mean)
    model.make_train_function()
    assert callable(model.train_function)


@pytest.mark.both_backends
def test_the_seam_is_put_in_place_by_the_first_optimizer_and_never_by_an_import():
    code = """
import keras
import keras_extras.optimizers, keras_extras.pipelines
trainer = next(cls for cls in keras.Model.__mro__ if "train_step" in vars(cls))
assert not hasattr(trainer.train_step, "__wrapped__")
keras_extras.optimizers.MonteCarloOptimizer()
assert hasattr(trainer.train_step, "__wrapped__")
assert not hasattr(trainer.train_step.__wrapped__, "__wrapped__")
keras_extras.optimizers.MonteCarloOptimizer()
assert not hasattr(trainer.train_step.__wrapped__, "__wrapped__")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.both_backends
def test_gradient_optimizers_train_as_if_the_seam_were_not_there():
    def weights_after_fit():
        keras.utils.set_random_seed(3)
        model = small_model()
        model.compile("adam", "mse")
        model.fit(X, Y, batch_size=4, epochs=2, verbose=0)
        return model.get_weights()

    MonteCarloOptimizer()
    trainer = trainer_class()
    wrapped = trainer.train_step, trainer.make_train_function
    with_seam = weights_after_fit()
    trainer.train_step, trainer.make_train_function = (f.__wrapped__ for f in wrapped)
    try:
        without_seam = weights_after_fit()
    finally:
        trainer.train_step, trainer.make_train_function = wrapped
    for a, b in zip(with_seam, without_seam):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("optimizer_class", [MonteCarloOptimizer, LBFGS, HypergradientSGD])
def test_the_first_step_is_traced_once(optimizer_class):
    """Variables that an optimizer makes while it is traced would have it traced again."""

    def calls_of_the_loss(is_built):
        calls = []

        def loss(y, y_pred):
            calls.append(1)
            return keras.ops.mean((y - y_pred) ** 2)

        model = small_model()
        model.compile(optimizer_class(), loss, jit_compile=False)
        if is_built:
            model.optimizer.build(model.trainable_variables)
        model.fit(X, Y, batch_size=len(X), verbose=0)
        return len(calls)

    assert calls_of_the_loss(is_built=False) == calls_of_the_loss(is_built=True) > 0


@pytest.mark.both_backends
def test_recompiling_to_and_from_adam():
    model = small_model()
    kinds = []
    for optimizer in ("adam", MonteCarloOptimizer(population_size=16, seed=0), "adam"):
        model.compile(optimizer, "mse")
        before = model.evaluate(X, Y, verbose=0)
        model.fit(X, Y, epochs=20, verbose=0)
        assert model.evaluate(X, Y, verbose=0) < before
        kinds.append(type(model.optimizer).__name__)
    assert kinds == ["Adam", "MonteCarloOptimizer", "Adam"]


@pytest.mark.both_backends
@pytest.mark.parametrize("optimizer_class", [MonteCarloOptimizer, CMAES, LBFGS])
def test_errors_of_a_loss_keep_their_message(optimizer_class):
    def loss(y, y_pred):
        raise ValueError("wrong by itself")

    model = small_model()
    model.compile(optimizer_class(), loss)
    # From version 3.16 on Keras puts a line before it.
    with pytest.raises(ValueError, match=r"(?m)^wrong by itself$"):
        model.fit(X, Y, verbose=0)


def test_another_backend_is_told_at_once(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ImportError, match=r"needs Keras' TensorFlow or JAX backend.*'torch'"):
        MonteCarloOptimizer()


def test_the_seam_works_where_a_model_takes_its_own_steps_with_minimize():
    class OwnStep(keras.Sequential):
        def train_step(self, data):
            x, y = data
            self.optimizer.minimize(
                lambda: keras.ops.mean((self(x) - y) ** 2), self.trainable_variables
            )
            return {"step": self.optimizer.iterations}

    model = OwnStep([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(MonteCarloOptimizer(0.1, population_size=32, seed=0))
    before = np.mean((model.predict(X, verbose=0) - Y) ** 2)
    model.fit(X, Y, batch_size=8, epochs=30, verbose=0)
    assert np.mean((model.predict(X, verbose=0) - Y) ** 2) < 0.2 * before
