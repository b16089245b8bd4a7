"""Trainings that cannot work, or not well, name the way that does."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_extras import losses
from keras_extras._core.training_set_size import _around_fit
from keras_extras._seams.fit_arguments import surrounded
from keras_extras.optimizers import (
    CMAES,
    LBFGS,
    HypergradientSGD,
    LevenbergMarquardt,
    MonteCarloOptimizer,
    NewtonCG,
    SSBroyden,
)

X = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
Y = (X[:, :1] > 0.0).astype("float32")


def make_model(optimizer, loss, **arguments):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile(optimizer, loss, **arguments)
    return model


COUNTS = [
    losses.ZeroOneLoss,
    losses.AUCLoss,
    losses.F1Loss,
    losses.FBetaLoss,
    losses.ApproximateMedianSignificanceLoss,
]


@pytest.mark.both_backends
@pytest.mark.parametrize("loss", COUNTS)
def test_losses_without_a_gradient_name_the_optimizer_for_them(loss):
    for optimizer in ("adam", HypergradientSGD()):
        model = make_model(optimizer, loss())
        before = model.get_weights()
        with pytest.raises(ValueError, match=f"{loss.__name__} .*MonteCarloOptimizer"):
            model.fit(X, Y, batch_size=64, verbose=0)
        with pytest.raises(ValueError, match="MonteCarloOptimizer"):
            model.train_on_batch(X, Y)
        for ours, expected in zip(model.get_weights(), before):
            np.testing.assert_array_equal(ours, expected)
        assert np.isfinite(model.evaluate(X, Y, verbose=0))


@pytest.mark.both_backends
def test_losses_without_a_gradient_beside_one_that_has_one():
    """In their place as one of several losses, or in a step of the user's own."""
    x = keras.Input((3,))
    outputs = [keras.layers.Dense(1, name=name)(x) for name in ("a", "b")]
    model = keras.Model(x, outputs)
    model.compile("sgd", ["mse", losses.ZeroOneLoss()], run_eagerly=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras': no gradient for the second output.
        assert np.isfinite(model.fit(X, [Y, Y], batch_size=64, verbose=0).history["loss"][0])

    class OwnStep(keras.Model):
        def train_step(self, *arguments):
            raise KeyError("mine")

    model = OwnStep(x, outputs[0])
    model.compile("sgd", losses.ZeroOneLoss())
    with pytest.raises(KeyError, match="mine"):
        model.fit(X, Y, verbose=0)


@pytest.mark.both_backends
@pytest.mark.parametrize("make", [LBFGS, LevenbergMarquardt, NewtonCG, SSBroyden, CMAES])
def test_small_batches_are_warned_of(make):
    model = make_model(make(), "mse")
    with pytest.warns(UserWarning, match="is made for full batches.*4 batches in an epoch"):
        model.fit(X, Y, batch_size=16, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(X, Y, batch_size=64, verbose=0)


@pytest.mark.parametrize(
    ("batches", "arguments", "warns"),
    [
        (lambda data: data.batch(16), {}, True),
        (lambda data: data.batch(16).repeat(), {"steps_per_epoch": 2}, True),
        (lambda data: data.batch(64), {}, False),
        (lambda data: data.batch(64).repeat(3), {}, False),
        (lambda data: iter_batches(32), {"steps_per_epoch": 2}, True),
    ],
)
def test_small_batches_of_datasets(batches, arguments, warns, monkeypatch):
    import tensorflow as tf

    seen = []
    monkeypatch.setattr(LBFGS, "check_batches", lambda self, batches: seen.append(batches))
    fit = surrounded(lambda self, *args, **kwargs: None, _around_fit)
    monkeypatch.setattr(keras.Model, "fit", fit)
    model = make_model(LBFGS(), "mse")
    model.fit(batches(tf.data.Dataset.from_tensor_slices((X, Y))), **arguments)
    assert (seen[0] > 1) == warns


def iter_batches(size):
    for start in range(0, 64, size):
        yield X[start : start + size], Y[start : start + size]


def test_a_learning_rate_below_one_averages_over_batches():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        LBFGS(learning_rate=0.1).check_batches(4)


@pytest.mark.both_backends
@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="before Keras 3.15")
def test_the_optimizer_of_several_that_keras_has_names_ours():
    parts = {".*kernel": MonteCarloOptimizer(population_size=4), ".*bias": "sgd"}
    parts = {pattern: keras.optimizers.get(part) for pattern, part in parts.items()}
    optimizer_map = keras.optimizers.OptimizerMap(keras.optimizers.SGD())
    for pattern, part in parts.items():
        optimizer_map[pattern] = part
    model = make_model(keras.optimizers.MultiOptimizer(optimizer_map), "mse")
    with pytest.raises(ValueError, match="PartitionedOptimizer"):
        model.fit(X, Y, batch_size=64, verbose=0)
    with pytest.raises(ValueError, match="PartitionedOptimizer"):
        parts[".*kernel"].apply([ops.ones((3, 1))], model.trainable_variables[:1])


class Minimizing(keras.Model):
    """Has a step of its own, and no weights before its first call."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, y = data[:2]
        self.optimizer.minimize(lambda: ops.mean((self(x) - y) ** 2), self.trainable_variables)
        return {"error": ops.mean((self(x) - y) ** 2)}


@pytest.mark.parametrize(
    "make", [LBFGS, lambda: MonteCarloOptimizer(0.1, 16, keep="current", seed=1)]
)
def test_a_step_of_the_users_own_may_build_the_model(make):
    for way in ("fit", "train_on_batch"):
        model = Minimizing()
        model.compile(make(), "mse")
        for _ in range(2):
            if way == "fit":
                loss = model.fit(X, Y, batch_size=64, verbose=0).history["error"][-1]
            else:
                loss = model.train_on_batch(X, Y, return_dict=True)["error"]
        assert np.isfinite(loss)
        expected = np.mean((model.predict(X, verbose=0) - Y) ** 2)
        np.testing.assert_allclose(loss, expected, rtol=1e-4)
        assert len(model.trainable_variables) == 2
        assert int(model.optimizer.iterations) == 2


def test_no_variables_at_all():
    with pytest.raises(ValueError, match="call it on a batch before `minimize`"):
        LBFGS().minimize(lambda: ops.ones(()), [])
