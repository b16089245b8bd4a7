"""Initial weights, rates of single weights and training data as hyperparameters of a training."""

import keras
import numpy as np
import pytest
from keras import ops
from precision import WIDE, tolerance

from keras_extras import unrolled

pytestmark = pytest.mark.both_backends

RNG = np.random.default_rng(3)
X = RNG.normal(size=(12, 3))
Y = X @ np.array([[1.0], [-2.0], [0.5]]) + 0.1 * RNG.normal(size=(12, 1))
VALIDATION = (X[8:], Y[8:])
RATE, STEPS = 0.1, 4


def linear():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, dtype=WIDE)(inputs))
    model.trainable_variables[0].assign([[0.3], [0.1], [-0.2]])
    return model


def make_training(hyperparameters, memory="all", optimizer=None, model=None):
    return unrolled.UnrolledTraining(
        model or linear(),
        optimizer or keras.optimizers.SGD(RATE),
        "mse",
        STEPS,
        hyperparameters,
        batch_size=None,
        memory=memory,
        jit_compile=False,
    )


def trained(x, y, weights, rate=RATE):
    """Gradient descent on the mean squared error, in closed form a recursion of matrices."""
    for _ in range(STEPS):
        weights = weights - rate * 2.0 / len(x) * x.T @ (x @ weights - y)
    return weights


def validation_loss(weights):
    return np.mean((VALIDATION[0] @ weights - VALIDATION[1]) ** 2)


def differences(function, value, step=1e-5):
    found = np.zeros_like(value)
    for index in np.ndindex(value.shape):
        changed = np.zeros_like(value)
        changed[index] = step
        found[index] = (function(value + changed) - function(value - changed)) / (2 * step)
    return found


@pytest.mark.parametrize("memory", ["all", "checkpoints"])
def test_gradients_are_differences_of_the_closed_form(memory):
    x, y, rates = X[:8], Y[:8], np.array([[0.05], [0.1], [0.2]])
    weights = np.array([[0.3], [0.1], [-0.2]])
    training = make_training(
        {"initial_weights/*": None, "learning_rate/dense*": rates, "x": x, "y": y}, memory
    )
    loss, gradients = training.hypergradient(None, None, VALIDATION)
    (name,) = set(gradients) - {"learning_rate/dense*", "x", "y"}
    assert name.startswith("initial_weights/")
    np.testing.assert_allclose(training.hyperparameters[name], weights, rtol=1e-6)
    assert loss == pytest.approx(validation_loss(trained(x, y, weights, rates)), rel=1e-5)
    expected = {
        name: differences(lambda w: validation_loss(trained(x, y, w, rates)), weights),
        "learning_rate/dense*": differences(
            lambda r: validation_loss(trained(x, y, weights, r)), rates
        ),
        "x": differences(lambda x: validation_loss(trained(x, y, weights, rates)), x),
        "y": differences(lambda y: validation_loss(trained(x, y, weights, rates)), y),
    }
    for key, value in expected.items():
        rtol, atol = tolerance(1e-6, 1e-4), tolerance(1e-9, 1e-5)
        np.testing.assert_allclose(gradients[key], value, rtol=rtol, atol=atol, err_msg=key)


def test_batches_take_their_rows_of_learned_data():
    x, y = X[:8], Y[:8]
    arguments = {"optimizer": keras.optimizers.SGD(RATE), "loss": "mse", "steps": STEPS}
    learned = unrolled.UnrolledTraining(
        linear(), **arguments, hyperparameters={"x": x, "y": y}, batch_size=3, jit_compile=False
    )
    given = unrolled.UnrolledTraining(
        linear(), **arguments, hyperparameters={"learning_rate": RATE}, batch_size=3
    )
    expected = given.run(x, y, VALIDATION)
    run = learned.run(None, None, VALIDATION)
    np.testing.assert_allclose(run.losses, expected.losses, rtol=1e-5)
    gradient = learned.hypergradient(None, None, VALIDATION)[1]["y"]
    objective = learned.objective(None, None, VALIDATION)
    step = tolerance(1e-4, 1e-1)  # The validation loss is a parabola of the targets.
    difference = differences(lambda y: objective({"y": y})[0], y, step)
    np.testing.assert_allclose(gradient, difference, rtol=tolerance(1e-6, 1e-2), atol=1e-4)


def test_distilled_targets_train_as_well_as_the_best():
    training = make_training({"y": np.zeros((8, 1))}, optimizer=keras.optimizers.SGD(0.3))
    history = training.fit(
        X[:8], None, VALIDATION, keras.optimizers.Adam(0.3), meta_steps=60, verbose=0
    )
    losses = history.history["val_loss"]
    assert losses[-1] < 0.05 * losses[0]


def test_initial_weights_are_learned_over_tasks():
    """MAML: the start from which one step of training ends at the lowest validation loss."""
    training = make_training({"initial_weights/*": None})
    before = training.run(X[:8], Y[:8], VALIDATION).validation_loss
    training.fit(X[:8], Y[:8], VALIDATION, keras.optimizers.Adam(0.1), meta_steps=40, verbose=0)
    (start,) = training.hyperparameters.values()
    assert training.run(X[:8], Y[:8], VALIDATION).validation_loss < 0.1 * before
    assert (start < 0).any(), "may have any sign"


@pytest.mark.parametrize(
    ("hyperparameters", "arguments", "message"),
    [
        ({"x": X[:8]}, (None, None), "`y` must be given"),
        ({"x": X[:8]}, (X[:8], Y[:8]), "`x` must be None where it is a hyperparameter"),
        ({"y": np.zeros((8, 2))}, (X[:8], None), "target|shape"),
        ({"y": np.zeros((7, 1))}, (X[:8], None), "rows"),
    ],
    ids=["no y", "x given twice", "columns", "rows"],
)
def test_data_that_do_not_fit(hyperparameters, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_training(hyperparameters).run(*arguments, VALIDATION)


def test_data_without_a_gradient_are_refused():
    """Rows of an embedding are numbers of its entries."""
    inputs = keras.Input((2,))
    embedded = keras.layers.Embedding(4, 3, dtype=WIDE)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, dtype=WIDE)(ops.sum(embedded, axis=1)))
    training = make_training({"x": np.ones((8, 2))}, model=model)
    with pytest.raises(ValueError, match="no gradient with respect to 'x'"):
        training.hypergradient(None, Y[:8], (np.ones((4, 2)), VALIDATION[1]))


def test_names_that_cannot_be():
    momentum = keras.optimizers.SGD(RATE, momentum=0.5)
    with pytest.raises(ValueError, match="one learning rate for all weights"):
        make_training({"learning_rate/*": 0.1}, "reversal", momentum)
    with pytest.raises(ValueError, match="'y' must be finite"):
        make_training({"y": np.full((8, 1), np.nan)})
    clipped = keras.optimizers.SGD(RATE, momentum=0.5, clipnorm=1.0)
    with pytest.raises(ValueError, match="SGD with momentum with clipnorm"):
        make_training({"learning_rate": 0.1}, "reversal", clipped)
