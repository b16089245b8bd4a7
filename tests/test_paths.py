"""Weights of one path, as functional towers with layers of one name have, are told apart."""

import keras
import numpy as np
import pytest

from keras_extras import inference, optimizers, unrolled
from keras_extras._core.paths import unique_paths

X = np.random.default_rng(0).normal(size=(12, 2)).astype("float32")
Y = X[:, :1]


class Tower(keras.layers.Layer):
    def __init__(self):
        super().__init__(name="tower")
        self.dense = keras.layers.Dense(1, name="dense")

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.dense(inputs)


class Towers(keras.Model):
    """Two sublayers that share a name, so that their weights share paths."""

    def __init__(self):
        super().__init__(name="towers")
        self.left, self.right = Tower(), Tower()

    def call(self, inputs, training=None):
        return self.left(inputs) + self.right(inputs)


@pytest.fixture
def model():
    model = Towers()
    model(X)
    assert len({v.path for v in model.trainable_variables}) < 4, "Keras tells them apart itself"
    return model


@pytest.mark.both_backends
def test_paths_are_numbered_from_the_second_on(model):
    paths = unique_paths(model.trainable_variables)
    assert len(set(paths)) == 4
    assert paths[0] == model.trainable_variables[0].path
    assert paths[2] == f"{paths[0]}_1"


def test_samples_of_all_weights_are_saved(model, tmp_path):
    generator = np.random.default_rng(1)
    samples = [
        generator.normal(size=(1, 5, *v.shape)).astype("float32") for v in model.trainable_variables
    ]
    posterior = inference.Posterior(model, samples)
    posterior.save(tmp_path / "posterior.npz")
    loaded = inference.Posterior.load(tmp_path / "posterior.npz", model)
    for ours, theirs in zip(samples, loaded.samples, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    pytest.importorskip("arviz")
    assert len(posterior.to_arviz().posterior) == 4


@pytest.mark.both_backends
def test_hyperparameters_of_each_weight_have_gradients_apart(model):
    training = unrolled.UnrolledTraining(
        model,
        keras.optimizers.SGD(0.1),
        "mse",
        steps=2,
        batch_size=12,
        hyperparameters={"l2/*": unrolled.PerWeight(0.1)},
    )
    assert len(training.hyperparameters) == 4
    objective = training.objective(X, Y, (X, Y))
    _, gradient = objective({})
    names = list(training.hyperparameters)
    for name in (names[0], names[2]):
        start = np.array(training.hyperparameters[name])
        losses = []
        for step in (0.05, -0.05):
            moved = start.copy()
            moved.flat[0] += step
            losses.append(float(objective({name: moved})[0]))
        difference = (losses[0] - losses[1]) / 0.1
        assert np.asarray(gradient[name]).flat[0] == pytest.approx(difference, rel=0.02)


@pytest.mark.both_backends
def test_each_weight_has_an_interval(model):
    optimizer = optimizers.MonteCarloOptimizer(0.05, 32, seed=1)
    model.compile(optimizer, "mse")
    model.fit(X, Y, batch_size=12, epochs=30, verbose=0)
    intervals = optimizer.confidence_intervals()
    assert len(intervals) == 4
    for interval, variable in zip(intervals.values(), model.trainable_variables):
        np.testing.assert_array_equal(interval.center, np.asarray(variable))
