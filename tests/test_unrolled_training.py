"""Training as a function: it equals stock training, and its gradient central differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras import autodiff

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4))
Y = np.stack([np.sin(X.sum(axis=1)), X[:, 0] * X[:, 1]], axis=1)
DATA = {"x": X[:20], "y": Y[:20], "validation_data": (X[20:], Y[20:])}
STEPS = 6
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.8),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.8, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.02, rho=0.7),
    "rmsprop with momentum": lambda: keras.optimizers.RMSprop(0.02, momentum=0.6),
    "adam": lambda: keras.optimizers.Adam(0.05, beta_1=0.8, beta_2=0.95),
}
# Beside the learning rates: of the optimizer, of weights (shared and one for each), of the rows.
SETTINGS = {
    "sgd": {},
    "momentum": {"momentum": autodiff.PerStep(0.8)},
    "nesterov": {"momentum": 0.8},
    "rmsprop": {"rho": 0.7},
    "rmsprop with momentum": {"momentum": 0.6, "rho": autodiff.PerStep(0.9)},
    "adam": {"beta_1": autodiff.PerStep(0.8), "beta_2": 0.95},
}


def make_model(dtype="float64", middle=()):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, activation="tanh", dtype=dtype, name="hidden"),
            *middle,
            keras.layers.Dense(2, dtype=dtype, name="last"),
        ],
        name="model",
    )
    generator = np.random.default_rng(5)
    model.set_weights([generator.normal(size=v.shape) for v in model.get_weights()])
    return model


def all_hyperparameters(name):
    return {
        "learning_rate": np.linspace(0.5, 1.0, STEPS) * float(OPTIMIZERS[name]().learning_rate),
        **SETTINGS[name],
        "l2/hidden/kernel": 0.3,
        "l2/last/*": autodiff.PerWeight(0.2),
        "initial_scale/hidden/kernel": np.array([[0.9], [1.0], [1.1], [1.2]]),
        "initial_scale/last/*": 0.8,
        "sample_weight": np.linspace(0.5, 1.5, 20),
    }


def make_training(name, dtype="float64", **arguments):
    arguments = {
        "hyperparameters": all_hyperparameters(name),
        "batch_size": 8,
        "jit_compile": False,
        **arguments,
    }
    model = arguments.pop("model", None) or make_model(dtype)
    return autodiff.UnrolledTraining(model, "mse", OPTIMIZERS[name](), STEPS, **arguments)


def central_differences(objective, values, step=1e-3):
    """Derivatives of the loss along a random direction of each hyperparameter, of fourth order."""
    found = {}
    for name, value in values.items():
        direction = value * np.random.default_rng(7).normal(size=value.shape)
        one, two = (
            objective({name: value + k * step * direction})[0]
            - objective({name: value - k * step * direction})[0]
            for k in (1, 2)
        )
        found[name] = (direction, (8 * one - two) / (12 * step))
    return found


@pytest.mark.parametrize("memory", ["all", "checkpoints"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hypergradients_are_central_differences(name, memory):
    training = make_training(name, memory=memory)
    loss, gradients = training.hypergradient(**DATA)
    objective = training.objective(**DATA)
    assert set(gradients) == set(training.hyperparameters)
    if memory == "all":
        differences = central_differences(objective, training.hyperparameters)
        for key, (direction, difference) in differences.items():
            assert abs(difference) > 1e-7, key
            derivative = np.sum(gradients[key] * direction)
            np.testing.assert_allclose(derivative, difference, rtol=1e-6, err_msg=key)
    else:
        expected_loss, expected = make_training(name).hypergradient(**DATA)
        assert loss == pytest.approx(expected_loss, rel=1e-12)
        for key in expected:
            np.testing.assert_allclose(gradients[key], expected[key], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_hypergradients_in_single_precision(name):
    expected = make_training(name).hypergradient(**DATA)[1]
    data = tf.nest.map_structure(lambda a: a.astype("float32"), DATA)
    gradients = make_training(name, "float32", jit_compile=True).hypergradient(**data)[1]
    for key in expected:
        scale = np.abs(expected[key]).max()
        np.testing.assert_allclose(gradients[key], expected[key], rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_that_of_the_stock_optimizer(name):
    """Same batches in stock `train_on_batch`."""
    run = make_training(
        name, hyperparameters={"learning_rate": float(OPTIMIZERS[name]().learning_rate)}
    ).run(**DATA)
    model = make_model()
    model.compile(OPTIMIZERS[name](), "mse")
    order = np.concatenate(epochs(20, 3))
    losses = [
        model.train_on_batch(X[rows], Y[rows]) for rows in order[: STEPS * 8].reshape(STEPS, 8)
    ]
    # Keras keeps the learning rate in single precision.
    for weight, variable in zip(run.weights, model.trainable_variables):
        np.testing.assert_allclose(weight, variable, rtol=1e-5, atol=1e-6)
    assert run.losses[0] == pytest.approx(losses[0], rel=1e-6)


def epochs(rows, count):
    generator = np.random.default_rng(0)
    return [generator.permutation(rows) for _ in range(count)]
