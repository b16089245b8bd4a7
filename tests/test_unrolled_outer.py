"""Derivatives through and beyond a training: outer tapes, arguments of losses, truncation."""

import keras
import numpy as np
import pytest
from keras import ops
from precision import ON_JAX, WIDE, tolerance

from keras_extras import unrolled

pytestmark = pytest.mark.both_backends

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4))
Y = np.sin(X.sum(axis=1, keepdims=True))
DATA = {"x": X[:20], "y": Y[:20], "validation_data": (X[20:], Y[20:])}
STEPS = 6


def make_model(middle=()):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, activation="tanh", dtype=WIDE, name="hidden"),
            *middle,
            keras.layers.Dense(1, dtype=WIDE, name="last"),
        ]
    )
    generator = np.random.default_rng(5)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(size=variable.shape))
    return model


def make_training(hyperparameters, model=None, loss="mse", optimizer=None, **arguments):
    return unrolled.UnrolledTraining(
        model or make_model(),
        optimizer or keras.optimizers.SGD(0.1, momentum=0.5),
        loss,
        STEPS,
        hyperparameters,
        jit_compile=False,
        **{"batch_size": 8, **arguments},
    )


def difference(objective, name, value):
    """A central difference of fourth order."""
    step = tolerance(1e-3, 3e-2) * value
    one, two = (
        objective({name: value + k * step})[0] - objective({name: value - k * step})[0]
        for k in (1, 2)
    )
    return (8 * one - two) / (12 * step)


def assert_is_difference(derivative, expected):
    np.testing.assert_allclose(derivative, expected, rtol=tolerance(1e-6, 2e-2))


def outer_gradient(function, value):
    if ON_JAX:
        import jax

        return jax.grad(function)(ops.convert_to_tensor(value, WIDE))
    import tensorflow as tf

    value = tf.constant(value, WIDE)
    with tf.GradientTape() as tape:
        tape.watch(value)
        result = function(value)
    return tape.gradient(result, value)


@pytest.mark.parametrize("memory", ["all", "checkpoints"])
def test_an_outer_tape_goes_on_through_training(memory):
    middle = [keras.layers.BatchNormalization(momentum=0.5, dtype=WIDE)]
    model = make_model(middle)
    training = make_training({"learning_rate": 0.1, "momentum": 0.5}, model, memory=memory)
    x, y = (ops.convert_to_tensor(part, WIDE) for part in DATA["validation_data"])

    def validation_loss(rate):
        given = {"learning_rate": 0.5 * rate}
        variables = training.stateless_run(given, DATA["x"], DATA["y"])
        outputs, _ = model.stateless_call(*variables, x, training=False)
        return ops.mean(ops.square(outputs - y)) + rate

    loss, gradients = training.hypergradient(**DATA)
    value = ops.convert_to_numpy(validation_loss(ops.convert_to_tensor(0.2, WIDE)))
    assert value == pytest.approx(loss + 0.2, rel=1e-5)
    found = ops.convert_to_numpy(outer_gradient(validation_loss, 0.2))
    expected = 0.5 * gradients["learning_rate"] + 1.0
    np.testing.assert_allclose(found, expected, rtol=tolerance(1e-9, 1e-4))


def test_what_an_outer_tape_cannot_have_is_named():
    training = make_training({"learning_rate": 0.1})
    with pytest.raises(ValueError, match=r"must have shape \(\). Received: shape \(2,\)"):
        training.stateless_run({"learning_rate": np.ones(2)}, DATA["x"], DATA["y"])
    with pytest.raises(ValueError, match="Values must be of the hyperparameters"):
        training.stateless_run({"momentum": 0.1}, DATA["x"], DATA["y"])
    with pytest.raises(TypeError, match=r"must be a dict from names.*Received: 0\.1"):
        training.stateless_run(0.1, DATA["x"], DATA["y"])
    training = make_training({"learning_rate": 0.1}, memory="reversal")
    with pytest.raises(ValueError, match='"all" or "checkpoints"'):
        training.stateless_run({}, DATA["x"], DATA["y"])


def huber(y_true, y_pred, delta=1.0, power=1.0):
    return keras.losses.huber(y_true, y_pred, delta) ** power


def test_arguments_of_losses_are_learned():
    options = {"loss": huber, "validation_loss": "mse"}
    training = make_training({"loss/delta": 0.7, "loss/power": 1.2}, **options)
    objective = training.objective(**DATA)
    loss, gradients = objective({})
    for name, value in training.hyperparameters.items():
        assert_is_difference(gradients[name], difference(objective, name, value))
    run = training.run(**DATA)
    assert run.validation_loss == pytest.approx(loss, rel=1e-6)
    outputs, _ = training.model.stateless_call(run.weights, [], DATA["validation_data"][0])
    errors = ops.convert_to_numpy(outputs) - DATA["validation_data"][1]
    assert loss == pytest.approx(np.mean(errors**2), rel=1e-5)
    history = training.fit(**DATA, meta_steps=3, verbose=0).history["val_loss"]
    assert history[-1] < history[0]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("loss/gamma", {"loss": huber, "validation_loss": "mse"}, r"\['gamma'\] for loss="),
        ("loss/delta", {"loss": "huber", "validation_loss": "mse"}, "a `loss` that is a function"),
        ("loss/delta", {"loss": huber}, "`validation_loss` must be given"),
    ],
)
def test_arguments_that_cannot_be_learned_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_training({name: 1.0}, **options)


@pytest.mark.parametrize("memory", ["all", "checkpoints"])
def test_truncation_leaves_the_last_steps_as_they_are(memory):
    rates = {"learning_rate": unrolled.PerStep(0.1)}
    loss, whole = make_training(rates).hypergradient(**DATA)
    training = make_training(rates, memory=memory, truncate=4)
    truncated_loss, truncated = training.hypergradient(**DATA)
    assert truncated_loss == pytest.approx(loss, rel=1e-6)
    found, expected = truncated["learning_rate"], whole["learning_rate"]
    np.testing.assert_allclose(found[2:], expected[2:], rtol=tolerance(1e-9, 1e-4))
    np.testing.assert_array_equal(found[:2], 0.0)
    assert np.all(expected[:2] != 0.0)
    np.testing.assert_allclose(training.run(**DATA).losses, make_training(rates).run(**DATA).losses)


@pytest.mark.parametrize(
    ("hyperparameters", "options", "message"),
    [
        ({"learning_rate": 0.1}, {"truncate": 7}, "`truncate` must be at most `steps`"),
        ({"learning_rate": 0.1}, {"truncate": 0}, "`truncate` must be"),
        ({"learning_rate": 0.1}, {"truncate": 3, "memory": "reversal"}, 'not "reversal"'),
        ({"initial_scale/*": 1.0}, {"truncate": 3}, "initial weights have no gradient"),
    ],
)
def test_truncations_that_cannot_be_are_named(hyperparameters, options, message):
    with pytest.raises(ValueError, match=message):
        make_training(hyperparameters, **options)


@pytest.mark.parametrize("memory", ["all", "reversal"])
@pytest.mark.parametrize("rate", [0.25, 1.5])
def test_the_spectral_radius_of_a_quadratic(rate, memory):
    """With one weight and a mean square of inputs of 1, a step multiplies by 1 - 2 rate."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, dtype=WIDE)])
    model.trainable_variables[0].assign([[1e-6]])
    x = np.array([[1.0], [-1.0]])
    training = unrolled.UnrolledTraining(
        model,
        keras.optimizers.SGD(rate, momentum=1e-9 if memory == "reversal" else 0.0),
        "mse",
        steps=24,
        hyperparameters={"learning_rate": rate},
        batch_size=None,
        memory=memory,
    )
    data = {"x": x, "y": 0.0 * x, "validation_data": (x, 0.0 * x)}
    found = training.diagnose(**data)
    assert found.adjoint_norms.shape == (24,)
    rtol = 2e-3 if memory == "reversal" else 1e-5  # whose momentum is a fraction of 4,096
    assert found.spectral_radius == pytest.approx(abs(1.0 - 2.0 * rate), rel=rtol)
    if rate == 0.25:
        assert found.is_trustworthy
        assert found.truncate is None
        return
    assert not found.is_trustworthy
    assert 10 <= found.truncate <= 20, "2 ** 10 is over the median of 20 powers"
    with pytest.warns(UserWarning, match=rf"not to be trusted.*truncate={found.truncate}\)"):
        training.hypergradient(**data)


@pytest.mark.parametrize("layer", [keras.layers.LSTM, keras.layers.GRU])
def test_recurrent_models(layer):
    x = RNG.normal(size=(30, 3, 2))
    data = {"x": x[:20], "y": Y[:20], "validation_data": (x[20:], Y[20:])}
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3, 2)), layer(2, dtype=WIDE), keras.layers.Dense(1, dtype=WIDE)]
    )
    training = make_training({"learning_rate": 0.1, "initial_scale/*kernel": 1.0}, model)
    objective = training.objective(**data)
    _, gradients = objective({})
    for name, value in training.hyperparameters.items():
        assert_is_difference(gradients[name], difference(objective, name, value))


def test_warm_up_and_momenta_of_each_step():
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps=3, warmup_target=0.2, warmup_steps=3
    )
    momenta = np.linspace(0.3, 0.8, STEPS)
    optimizer = keras.optimizers.SGD(schedule, momentum=0.5)
    training = make_training({"momentum": momenta}, optimizer=optimizer)
    rates = [float(schedule(step)) for step in range(STEPS)]
    explicit = make_training({"momentum": momenta, "learning_rate": np.array(rates)})
    for one, other in zip(training.run(**DATA).weights, explicit.run(**DATA).weights):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    _, gradients = training.hypergradient(**DATA)
    objective = training.objective(**DATA)
    step = tolerance(1e-5, 1e-2) * np.eye(STEPS)[4]
    up, down = (objective({"momentum": momenta + sign * step})[0] for sign in (1, -1))
    assert_is_difference(gradients["momentum"][4], (up - down) / (2 * step[4]))


def test_two_models_in_one_training():
    """A model of models: each learns with its own rate and for its own loss."""
    inputs = keras.Input((4,), dtype=WIDE)
    parts = [keras.Sequential([keras.layers.Dense(1, dtype=WIDE)], name=n) for n in ("one", "two")]
    outputs = {part.name: part(inputs) for part in parts}
    both = keras.Model(inputs, {**outputs, "two": outputs["two"] * outputs["one"]})
    losses = {"one": "mse", "two": "log_cosh"}
    rates = {"learning_rate/*one*": 0.1, "learning_rate/*two*": 0.02, "loss_weight/two": 0.5}
    training = make_training(rates, both, losses)
    targets = {"one": Y, "two": Y**2}
    first, rest = ({k: v[rows] for k, v in targets.items()} for rows in (slice(20), slice(20, 30)))
    objective = training.objective(X[:20], first, (X[20:], rest))
    _, gradients = objective({})
    for name, value in training.hyperparameters.items():
        assert_is_difference(gradients[name], difference(objective, name, value))
