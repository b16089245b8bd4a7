"""Training as a function: it equals stock training, and its gradient central differences."""

import keras
import numpy as np
import pytest
from precision import ON_JAX, WIDE, needs_float64, tolerance
from tiers import quick

from keras_extras import unrolled

pytestmark = pytest.mark.both_backends

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
    "adamw": lambda: without_decay_of_biases(
        # With betas that single precision holds well, as Keras keeps them so.
        keras.optimizers.AdamW(0.05, 0.3, beta_1=0.8, beta_2=0.95, global_clipnorm=1.0)
    ),
    "averaged": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.7, clipnorm=0.9),
    "clipped": lambda: keras.optimizers.SGD(0.1, 0.5, clipvalue=0.2, weight_decay=0.1),
}
# Beside the learning rates: of the optimizer, of weights (shared and one for each), of the rows.
SETTINGS = {
    "sgd": {},
    "momentum": {"momentum": unrolled.PerStep(0.8)},
    "nesterov": {"momentum": 0.8},
    "rmsprop": {"rho": 0.7},
    "rmsprop with momentum": {"momentum": 0.6, "rho": unrolled.PerStep(0.9)},
    "adam": {"beta_1": unrolled.PerStep(0.8), "beta_2": 0.95},
    "adamw": {"weight_decay": 0.3, "learning_rate/last/kernel": unrolled.PerWeight(0.04)},
    "averaged": {"ema_momentum": 0.7, "weight_decay": unrolled.PerStep(0.1)},
    "clipped": {"momentum": 0.5, "weight_decay": 0.1},
}


def without_decay_of_biases(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def make_model(dtype=WIDE, middle=()):
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
    for variable in model.trainable_variables:
        variable.assign(generator.normal(size=variable.shape))
    return model


def all_hyperparameters(name):
    return {
        "learning_rate": np.linspace(0.5, 1.0, STEPS) * float(OPTIMIZERS[name]().learning_rate),
        **SETTINGS[name],
        "l2/hidden/kernel": 0.3,
        "l2/last/*": unrolled.PerWeight(0.2),
        "initial_scale/hidden/kernel": np.array([[0.9], [1.0], [1.1], [1.2]]),
        "initial_scale/last/*": 0.8,
        "sample_weight": np.linspace(0.5, 1.5, 20),
    }


def make_training(name, dtype=WIDE, **arguments):
    arguments = {
        "hyperparameters": all_hyperparameters(name),
        "batch_size": 8,
        "jit_compile": False,
        **arguments,
    }
    model = arguments.pop("model", None) or make_model(dtype)
    return unrolled.UnrolledTraining(model, OPTIMIZERS[name](), "mse", STEPS, **arguments)


def central_differences(objective, values):
    """Derivatives of the loss along a random direction of each hyperparameter, of fourth order."""
    step = tolerance(1e-3, 3e-2)
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


def assert_is_difference(derivative, difference, name=""):
    rtol, atol = tolerance(1e-6, 1e-2), tolerance(0.0, 5e-5)
    np.testing.assert_allclose(derivative, difference, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("memory", ["all", "checkpoints"])
# Of each kind one is enough where all is compiled.
@pytest.mark.parametrize(
    "name",
    quick(["nesterov", "rmsprop with momentum", "adam", "adamw", "averaged"], "nesterov", "adamw")
    if ON_JAX
    else quick(OPTIMIZERS, "momentum", "adam", "adamw", "averaged", "clipped"),
)
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
            assert_is_difference(derivative, difference, key)
    else:
        expected_loss, expected = make_training(name).hypergradient(**DATA)
        assert loss == pytest.approx(expected_loss, rel=tolerance(1e-12, 1e-6))
        for key in expected:
            rtol, atol = tolerance(1e-9, 1e-4), tolerance(1e-14, 1e-6)
            np.testing.assert_allclose(gradients[key], expected[key], rtol=rtol, atol=atol)


@needs_float64
@pytest.mark.parametrize("name", quick(OPTIMIZERS, "adam"))
def test_hypergradients_in_single_precision(name):
    expected = make_training(name).hypergradient(**DATA)[1]
    data = keras.tree.map_structure(lambda a: a.astype("float32"), DATA)
    gradients = make_training(name, "float32", jit_compile=name == "adam").hypergradient(**data)[1]
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
    model.optimizer.finalize_variable_values(model.trainable_variables)
    # Keras keeps the learning rate in single precision.
    for weight, variable in zip(run.weights, model.trainable_variables):
        np.testing.assert_allclose(weight, variable, rtol=1e-5, atol=1e-6)
    assert run.losses[0] == pytest.approx(losses[0], rel=1e-6)


def epochs(rows, count):
    generator = np.random.default_rng(0)
    return [generator.permutation(rows) for _ in range(count)]


def test_meta_steps_descend_the_hypergradient():
    training = make_training(
        "momentum",
        hyperparameters={"learning_rate": unrolled.PerStep(0.01), "momentum": 0.5, "l2/*": 0.1},
    )
    start = training.hyperparameters
    weights = training.model.get_weights()
    _, gradients = training.hypergradient(**DATA)
    history = training.fit(
        **DATA, meta_optimizer=keras.optimizers.SGD(0.1), meta_steps=1, verbose=0
    )
    learned = training.hyperparameters
    rate, momentum = start["learning_rate"], start["momentum"]
    expected = rate * np.exp(-0.1 * rate * gradients["learning_rate"])
    np.testing.assert_allclose(learned["learning_rate"], expected, rtol=tolerance(1e-6, 1e-5))
    logit = np.log(momentum / (1 - momentum)) - 0.1 * 0.25 * gradients["momentum"]
    assert learned["momentum"] == pytest.approx(1 / (1 + np.exp(-logit)), rel=tolerance(1e-6, 1e-5))
    before, after = history.history["val_loss"]
    assert after < before
    loss = np.mean(np.square(training.model.predict(X[20:], verbose=0) - Y[20:]))
    assert loss == pytest.approx(after, rel=1e-6)
    assert not np.array_equal(weights[0], training.model.get_weights()[0])
    training.model.set_weights(weights)
    assert training.run(**DATA).validation_loss == pytest.approx(after, rel=tolerance(1e-9, 1e-6))


def test_the_objective_is_a_plain_function_of_named_values():
    training = make_training("sgd", hyperparameters={"learning_rate": 0.1})
    objective = training.objective(**DATA)
    loss, gradients = objective({"learning_rate": 0.2})
    assert loss != objective({})[0] == training.hypergradient(**DATA)[0]
    assert gradients["learning_rate"].shape == ()
    with pytest.raises(ValueError, match=r"\['learning_rate'\]. Received: \['rate'\]"):
        objective({"rate": 0.1})
    with pytest.raises(ValueError, match="finite and at least 0"):
        objective({"learning_rate": -0.1})


def test_outputs_are_weighted():
    inputs = keras.Input((4,))
    first, second = (keras.layers.Dense(1, dtype=WIDE, name=n)(inputs) for n in ("one", "two"))
    model = keras.Model(inputs, [first, second])
    training = unrolled.UnrolledTraining(
        model,
        "sgd",
        {"one": "mse", "two": keras.losses.MeanAbsoluteError(dtype=WIDE)},
        steps=3,
        hyperparameters={"loss_weight/one": 1.0, "loss_weight/two": 0.5},
        batch_size=None,
        jit_compile=False,
    )
    data = {
        "x": X[:20],
        "y": [Y[:20, :1], Y[:20, 1:]],
        "validation_data": (X[20:], {"one": Y[20:, :1], "two": Y[20:, 1:]}),
    }
    _, gradients = training.hypergradient(**data)
    differences = central_differences(training.objective(**data), training.hyperparameters)
    for name, (direction, difference) in differences.items():
        assert_is_difference(gradients[name] * direction, difference, name)


def test_moving_statistics_are_trained_and_random_layers_are_fixed():
    middle = [
        keras.layers.BatchNormalization(momentum=0.7, dtype=WIDE, name="norm"),
        keras.layers.Dropout(0.3, dtype=WIDE),
    ]
    training = make_training(
        "momentum",
        model=make_model(middle=middle),
        hyperparameters={"learning_rate": 0.1, "initial_scale/norm/gamma": 0.9},
    )
    first, again = training.run(**DATA), training.run(**DATA)
    for a, b in zip(first.weights + first.statistics, again.weights + again.statistics):
        np.testing.assert_array_equal(a, b)
    assert np.abs(first.statistics[0]).max() > 0.01
    np.testing.assert_array_equal(training.model.get_layer("norm").moving_mean, np.zeros(3))
    _, gradients = training.hypergradient(**DATA)
    differences = central_differences(training.objective(**DATA), training.hyperparameters)
    for name, (direction, difference) in differences.items():
        assert_is_difference(gradients[name] * direction, difference, name)
    training.assign(first)
    np.testing.assert_array_equal(training.model.get_layer("norm").moving_mean, first.statistics[0])


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.LayerNormalization(dtype=WIDE),
        lambda: keras.layers.GroupNormalization(1, dtype=WIDE),
    ],
    ids=["layer", "group"],
)
def test_normalization_is_differentiated_twice(layer):
    """With the gradient that `tf.nn.moments` stops, these are wrong by a percent or more."""
    training = make_training(
        "sgd", model=make_model(middle=[layer()]), hyperparameters={"learning_rate": 0.1}
    )
    _, gradients = training.hypergradient(**DATA)
    differences = central_differences(training.objective(**DATA), training.hyperparameters)
    direction, difference = differences["learning_rate"]
    assert_is_difference(gradients["learning_rate"] * direction, difference)


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"rate": 0.1}, "one of learning_rate, momentum, l2/<pattern>.*Received: 'rate'"),
        ({"l2/missing": 0.1}, "'missing', which matches none of 'model/hidden/kernel'"),
        ({"l2/*": 0.1, "l2/last/*": 0.2}, "all of whose variables have another"),
        ({"loss_weight/other": 1.0}, "Received: 'loss_weight/other'"),
        ({"learning_rate": np.ones(5)}, r"each of the 6 steps. Received: shape \(5,\)"),
        ({"l2/hidden/kernel": np.ones(5)}, r"'model/hidden/kernel' of shape \(4, 3\)"),
        ({"momentum": 1.0}, r"must lie in \[0, 1\). Received: 1"),
        ({"learning_rate": np.nan}, "finite and at least 0"),
        ({"sample_weight": 1.0}, "one number for each row"),
        ({}, "at least one of"),
    ],
)
def test_wrong_hyperparameters_are_named(hyperparameters, message):
    with pytest.raises(ValueError, match=message):
        make_training("momentum", hyperparameters=hyperparameters)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (keras.optimizers.Adagrad(), "SGD, RMSprop, Adam or AdamW.*Adagrad"),
        (keras.optimizers.Adam(amsgrad=True), "leave `amsgrad` off"),
        ("mse", "comes before `loss` as in `compile`. Received: optimizer='mse'"),
    ],
)
def test_what_is_not_unrolled_is_named(optimizer, message):
    with pytest.raises(ValueError, match=message):
        unrolled.UnrolledTraining(make_model(), optimizer, "mse", 3, {"learning_rate": 0.1})


@keras.saving.register_keras_serializable("test_unrolled_training")
class Rounded(keras.layers.Layer):
    def call(self, x):
        return keras.ops.round(4.0 * x) / 4.0


def test_layers_without_a_gradient_are_named():
    model = make_model(middle=[Rounded(dtype=WIDE, name="steps")])
    training = make_training("sgd", model=model, hyperparameters={"learning_rate": 0.1})
    message = r"'model/hidden/kernel', 'model/hidden/bias'; not differentiable: 'steps' \(Rounded\)"
    with pytest.raises(ValueError, match=message):
        training.hypergradient(**DATA)
    model(X)  # The layers' own calls are as before.


def test_data_and_runs_that_go_wrong_are_named():
    with pytest.raises(ValueError, match=r"is NaN or infinite at step 2 of 6"):
        make_training(
            "sgd",
            hyperparameters={
                "learning_rate": np.array([0.1, tolerance(1e200, 1e30), 0.1, 0.1, 0.1, 0.1])
            },
        ).run(**DATA)
    training = make_training("sgd", hyperparameters={"sample_weight": np.ones(7)})
    with pytest.raises(ValueError, match="7 values for 20 rows"):
        training.run(**DATA)
    with pytest.raises(ValueError, match=r"Received: \[19, 20\] rows"):
        training.run(X[:20], Y[:19])
    with pytest.raises(ValueError, match="batch_size=8"):
        training.run(X[:7], Y[:7])
    with pytest.raises(ValueError, match="must have rows"):
        training.run(X[:0], Y[:0])
    with pytest.raises(ValueError, match="must start above 0"):
        make_training("sgd", hyperparameters={"l2/*": 0.0}).fit(**DATA, verbose=0)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        make_training("sgd", hyperparameters={"learning_rate": 0.1}, batch_size=0)
    model = make_model()
    model.trainable_variables[0].constraint = keras.constraints.NonNeg()
    with pytest.raises(ValueError, match=r"no constraints.*'model/hidden/kernel'"):
        make_training("sgd", model=model, hyperparameters={"learning_rate": 0.1})
    with pytest.raises(ValueError, match="built Keras model"):
        unrolled.UnrolledTraining(keras.Sequential(), "sgd", "mse", 3, {"learning_rate": 0.1})


@pytest.mark.parametrize(
    ("validation_data", "message"),
    [
        (X, r"must be a tuple \(x, y\) .*Received: ndarray"),
        ((X,), r"must be a tuple \(x, y\) .*Received: tuple of 1 entries"),
        ((X[:5], Y[:4]), r"equally many.*Received: \[4, 5\] rows"),
        ((X[:0], Y[:0]), r"must have rows.*Received: \[0\] rows"),
    ],
)
def test_validation_data_that_are_none_are_named_before_training(validation_data, message):
    training = make_training("sgd", hyperparameters={"learning_rate": 0.1})
    for call in (training.run, training.hypergradient):
        with pytest.raises(ValueError, match=message):
            call(X[:20], Y[:20], validation_data)


def test_a_schedule_of_keras_gives_each_step_its_rate():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    settings = {"steps": STEPS, "batch_size": 8, "jit_compile": False}
    fixed = unrolled.UnrolledTraining(
        make_model(),
        keras.optimizers.SGD(schedule),
        "mse",
        hyperparameters={"l2/*": 0.0},
        **settings,
    )
    rates = 0.1 * 0.5 ** np.arange(STEPS)
    learned = make_training("sgd", hyperparameters={"learning_rate": rates})
    for a, b in zip(fixed.run(**DATA).weights, learned.run(**DATA).weights):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("memory", ["all", "checkpoints"])
def test_an_outer_tape_records_nothing(memory):
    """XLA cannot compile the loops of a training that a tape watches."""
    if ON_JAX:
        pytest.skip("JAX has no tapes")
    import tensorflow as tf

    x, y = (part.astype("float32") for part in (X, Y))
    arguments = {"memory": memory, "batch_size": None, "jit_compile": True}
    arguments |= {"hyperparameters": {"learning_rate": 0.1}, "dtype": "float32"}
    expected = make_training("sgd", **arguments).hypergradient(x, y, (x, y))
    with tf.GradientTape() as tape:
        watched = tf.constant(x)
        tape.watch(watched)
        training = make_training("sgd", **arguments)
        loss, gradient = training.hypergradient(watched, y, (watched, y))
        training.fit(watched, y, (watched, y), meta_steps=1, verbose=0)
    assert loss == pytest.approx(expected[0], rel=1e-6)
    np.testing.assert_allclose(gradient["learning_rate"], expected[1]["learning_rate"], rtol=1e-5)
    compiled = tf.function(lambda: training.run(x, y), autograph=False)
    with pytest.raises(ValueError, match="must be called outside of compiled functions"):
        compiled()
