"""Training in integers is undone bit for bit, and what that takes is as small as is said."""

import keras
import numpy as np
import pytest
from keras import ops
from precision import WIDE, needs_tensorflow, tolerance

from keras_extras import unrolled
from keras_extras.unrolled import backend, exact_reversal

pytestmark = pytest.mark.both_backends

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype("float32")
Y = np.sin(X.sum(axis=1, keepdims=True)).astype("float32")
DATA = {"x": X[:40], "y": Y[:40], "validation_data": (X[40:], Y[40:])}


def make_training(steps, momentum=0.9, dtype="float32", memory="reversal", **arguments):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, activation="tanh", dtype=dtype),
            keras.layers.Dense(1, dtype=dtype),
        ]
    )
    arguments.setdefault("hyperparameters", {"learning_rate": 0.05, "momentum": momentum})
    optimizer = arguments.pop("optimizer", None) or keras.optimizers.SGD(0.05, momentum=0.9)
    settings = {"steps": steps, "batch_size": 8, "memory": memory, "jit_compile": False}
    return unrolled.UnrolledTraining(model, optimizer, "mse", **{**settings, **arguments})


def test_a_product_with_the_momentum_is_undone():
    """Values of either sign, momenta from one end of their range to the other."""
    generator = np.random.default_rng(0)
    with backend.integers_of_64_bits():
        values = ops.convert_to_tensor(generator.integers(-(2**59), 2**59, 100), "int64")
        buffer = ops.convert_to_tensor(generator.integers(0, 2**40, 100), "int64")
        for numerator in (1, 1000, 3686, 2**12 - 1):
            product, filled = exact_reversal.multiply(values, buffer, numerator)
            exact = [int(v) * numerator / 2**12 for v in ops.convert_to_numpy(values)]
            np.testing.assert_allclose(product, exact, rtol=1e-12, atol=2**13)
            for found, expected in zip(
                exact_reversal.divide(product, filled, numerator), (values, buffer)
            ):
                np.testing.assert_array_equal(found, expected)
        lost = exact_reversal.divide(product, ops.zeros_like(filled), numerator)[0]
        assert not np.array_equal(lost, values), "without the buffer the bits are gone"


@needs_tensorflow  # On JAX the way there and the way back are one loop.
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_thousand_steps_are_undone_bit_for_bit(jit_compile):
    """Run by hand: the path's `undo` from the final state returns every integer."""
    training = make_training(1000, jit_compile=jit_compile)
    data = training._data.training(DATA["x"], DATA["y"], training.hyperparameters)
    path = training._compile(data)._path
    start, values = training_state(training, path)

    def there_and_back():
        _, losses, (initial, weights, velocities, buffer) = path.forward(
            start, values, data, path.room(training._values)
        )
        state = backend.while_loop(
            lambda t, *_: t >= 0,
            lambda t, *state: (t - 1, *path.undo(t, *state, values, data)),
            (ops.convert_to_tensor(999), weights, velocities, buffer),
        )
        return initial, state[1], state[2], weights, losses

    with path.context():
        initial, weights, velocities, final, losses = backend.compiled(there_and_back)()
    assert np.mean(losses[-50:]) < 0.5 * np.mean(losses[:50])
    for a, b, c in zip(initial, weights, final):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    assert all(np.count_nonzero(v) == 0 for v in velocities)
    for variable, value in zip(
        training.model.trainable_variables, exact_reversal.to_float(weights, "float32")
    ):
        np.testing.assert_array_equal(variable, value)


def training_state(training, path):
    compiled = training._compiled
    values = path.prepare(compiled._tensors(training._values))
    return compiled._step.initial_state(values, training._weights, []), values


HYPERPARAMETERS = {
    "learning_rate": unrolled.PerStep(0.05),
    "momentum": unrolled.PerStep(0.75),
    "l2/*/kernel": 0.01,
    "initial_scale/*": 0.9,
    "sample_weight": np.ones(40),
}


def test_a_thousand_steps_lead_back_to_the_start():
    """Else it raises, as the last test shows."""
    training = make_training(1000, hyperparameters=HYPERPARAMETERS, jit_compile=True)
    loss, _ = training.hypergradient(**DATA)
    assert loss == pytest.approx(training.run(**DATA).validation_loss, rel=1e-2)


def test_hypergradients_are_those_of_training_with_all_states():
    found, expected = (
        make_training(60, dtype=WIDE, memory=memory, hyperparameters=HYPERPARAMETERS).hypergradient(
            **DATA
        )
        for memory in ("reversal", "all")
    )
    assert found[0] == pytest.approx(expected[0], rel=tolerance(1e-9, 1e-6))
    for name, gradient in expected[1].items():
        scale = np.abs(gradient).max()
        assert scale > 1e-6
        rtol = tolerance(1e-7, 1e-5)
        np.testing.assert_allclose(found[1][name], gradient, rtol=rtol, atol=rtol / 10 * scale)


@pytest.mark.parametrize(("momentum", "bits"), [(0.9, 0.152), (0.5, 1.0)])
def test_the_buffer_grows_by_the_bits_that_momentum_loses(momentum, bits):
    steps = 400
    training = make_training(steps, momentum)
    data = training._data.training(DATA["x"], DATA["y"], training.hyperparameters)
    path = training._compile(data)._path
    start, values = training_state(training, path)

    room = path.room(training._values)

    def count():
        buffer = path.forward(start, values, data, room)[2][3]
        return buffer.count, buffer.bound

    with path.context():
        words, bound = backend.compiled(count)()
    needed = float(words) * 50 + np.log2(bound)
    assert steps * bits < needed < 1.15 * steps * bits


def test_what_does_not_fit_is_said():
    for optimizer in (keras.optimizers.SGD(0.1), "adam"):
        hyperparameters = {"learning_rate": 0.1}
        with pytest.raises(ValueError, match=r'memory="reversal".*SGD with momentum'):
            make_training(4, optimizer=optimizer, hyperparameters=hyperparameters)
    with pytest.raises(ValueError, match="Nesterov"):
        make_training(4, optimizer=keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True))
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    training = unrolled.UnrolledTraining(
        model,
        keras.optimizers.SGD(0.1, momentum=0.9),
        "mse",
        2,
        {"momentum": 0.9},
        memory="reversal",
    )
    with pytest.raises(ValueError, match=r"moving statistics.*moving_mean"):
        training.run(X, X)


def test_a_way_back_that_misses_the_start_is_an_error(monkeypatch):
    training = make_training(5)
    training.run(**DATA)
    wrong = lambda v, b, n: (v // n * 2**12, b)  # noqa: E731
    monkeypatch.setattr(exact_reversal, "divide", wrong)
    with pytest.raises(RuntimeError, match="did not return to the initial weights"):
        training.hypergradient(**DATA)
