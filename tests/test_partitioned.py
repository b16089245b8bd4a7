"""PartitionedOptimizer: each part trains as if it were alone, and all of them together in `fit`."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from precision import ON_JAX
from tiers import UNCOMPILED, quick

from keras_extras.layers import EinsteinLatent
from keras_extras.optimizers import (
    CMAES,
    SGLD,
    MonteCarloOptimizer,
    PartitionedOptimizer,
    priors,
    transforms,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 4)).astype("float32")
Y = (X @ RNG.normal(size=(4, 1)) + 0.5).astype("float32")
OPTIONS = [
    {},
    {"steps_per_execution": 3, "jit_compile": True},
    {"run_eagerly": True},
    {"policy": "mixed_float16"},
]
BEFORE_OPTIMIZER_MAP = not hasattr(keras.optimizers, "OptimizerMap")


def sampler(**arguments):
    return MonteCarloOptimizer(**{"population_size": 16, "seed": 0, **arguments})


def mixed(**arguments):
    return PartitionedOptimizer({"head/*": sampler(**arguments), "*": keras.optimizers.Adam(0.01)})


def make_model(optimizer, policy="float32", dropout=0.1, **options):
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, activation="relu", kernel_regularizer="l2", name="hidden"),
            layers.BatchNormalization(name="normalization"),
            layers.Dropout(dropout, seed=5),
            layers.Dense(1, kernel_constraint=keras.constraints.MaxNorm(2.0), name="head"),
        ]
    )
    model.compile(optimizer, "mse", **{**UNCOMPILED, **options})
    return model


def fit(model, epochs=2, initial_epoch=0, **options):
    options = {"batch_size": 32, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, epochs=epochs, initial_epoch=initial_epoch, **options).history


def trained(optimizer, **options):
    model = make_model(optimizer, **options)
    fit(model)
    return model


def assert_same_weights(a, b, **tolerances):
    for u, v in zip(a.trainable_weights, b.trainable_weights, strict=True):
        np.testing.assert_allclose(u.numpy(), v.numpy(), err_msg=u.path, **tolerances)


def assert_same_state(a, b):
    for u, v in zip(
        [*a.weights, *a.optimizer.variables], [*b.weights, *b.optimizer.variables], strict=True
    ):
        np.testing.assert_array_equal(u.numpy(), v.numpy(), err_msg=u.path)


@pytest.mark.parametrize("options", quick(OPTIONS, {}, OPTIONS[1]), ids=str)
def test_one_gradient_optimizer_trains_as_it_does_alone(options):
    alone = trained(keras.optimizers.Adam(0.01), **options)
    part = trained(PartitionedOptimizer({"*": keras.optimizers.Adam(0.01)}), **options)
    assert_same_weights(alone, part, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [sampler, lambda: CMAES(seed=0)])
def test_one_search_goes_as_it_does_alone(make):
    assert_same_weights(trained(make()), trained(PartitionedOptimizer({"*": make()})), rtol=1e-6)


def test_gradient_optimizers_train_as_they_do_in_two_models():
    """The loss is a sum of two, each of the variables of one part."""

    def weights(optimizer, parts):
        keras.utils.set_random_seed(2)
        variables = [keras.Variable([3.0, -2.0], name=f"w{i}") for i in range(2)]
        for _ in range(5):
            if parts:
                optimizer.minimize(lambda: sum(ops.sum(v**2) for v in variables), variables)
            else:
                for part, v in zip(optimizer, variables):
                    part.apply([2 * v], [v])
        return [v.numpy() for v in variables]

    make = keras.optimizers.SGD, keras.optimizers.RMSprop
    together = weights(PartitionedOptimizer({"w0": make[0](0.1), "w1": make[1](0.1)}), True)
    apart = weights([make[0](0.1), make[1](0.1)], False)
    np.testing.assert_allclose(together, apart, rtol=1e-6)


@pytest.mark.parametrize("options", quick(OPTIONS, {}, OPTIONS[-1]), ids=str)
def test_a_mixed_fit_lowers_the_loss_and_moves_all(options):
    model = make_model(mixed(learning_rate=0.05), **options)
    before = model.get_weights()
    loss_before = model.evaluate(X, Y, verbose=0)
    history = fit(model, 8)
    assert model.evaluate(X, Y, verbose=0) < 0.7 * loss_before
    assert history["loss"][-1] < history["loss"][0]
    for variable, old in zip(model.weights, before):
        assert not np.array_equal(variable.numpy(), old), variable.path
    assert int(model.optimizer.iterations) == 24
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    # Keras leaves out the steps whose scaled gradients overflow.
    assert int(optimizer.optimizers[0].iterations) == 24
    assert 20 <= int(optimizer.optimizers[1].iterations) <= 24


def test_all_parts_start_from_the_same_weights():
    """Where each search sees the loss, and the gradient is taken, is independent of the order."""

    def weights(order):
        variables = {name: keras.Variable([1.0, 2.0], name=name) for name in "abc"}
        parts = {"a": sampler(seed=3), "b": CMAES(seed=4), "c": keras.optimizers.SGD(0.1)}
        optimizer = PartitionedOptimizer({name: parts[name] for name in order})
        a, b, c = variables.values()
        for _ in range(3):
            optimizer.minimize(lambda: ops.sum((a * b - c) ** 2 + a**2), [a, b, c])
        return [v.numpy() for v in variables.values()]

    np.testing.assert_allclose(weights("abc"), weights("cba"), rtol=1e-6)


@pytest.mark.parametrize(
    "make_search",
    [
        lambda: sampler(learning_rate=0.02, sigma=0.2),
        lambda: CMAES(sigma=0.3, generations_per_batch=4, seed=0),
    ],
    ids=["MonteCarloOptimizer", "CMAES"],
)
@pytest.mark.slow
def test_einstein_latents_behind_a_rounding_train(make_search):
    class Rounded(layers.Layer):
        def call(self, x):
            return ops.round(4.0 * x) / 4.0

    def losses(make_optimizer, trains_latents):
        keras.utils.set_random_seed(3)
        latent = EinsteinLatent(2, "linear", name="einstein", trainable=trains_latents)
        model = keras.Sequential(
            [keras.Input((4,)), latent, Rounded(), layers.Dense(4, name="decoder")]
        )
        model.compile(make_optimizer(), "mse")
        return model.fit(x, x, batch_size=32, epochs=50, verbose=0).history["loss"]

    def adam():
        return keras.optimizers.Adam(0.05)

    x = (X[:, :2] @ np.array([[1.0, 2.0, 0.0, -1.0], [0.5, -1.0, 1.0, 0.0]])).astype("float32")
    both = losses(lambda: PartitionedOptimizer({"einstein/*": make_search(), "*": adam()}), True)
    decoder_alone = losses(adam, False)
    assert both[-1] < 0.1 * both[0]
    assert both[-1] < 0.1 * decoder_alone[-1]


def rich_map():
    return {
        "head/*": sampler(
            learning_rate=keras.optimizers.schedules.ExponentialDecay(0.05, 5, 0.9),
            priors={"head/*": priors.Normal(0.0, 0.5)},
            transforms={"head/bias": transforms.Bounds(-2, 2)},
            generations_per_batch=2,
            num_prior_samples=4,
        ),
        "normalization/*": CMAES(keep="average", seed=2),
        "hidden/bias": CMAES(seed=3)
        if ON_JAX
        else SGLD(0.01, seed=3, num_samples=4, thinning_steps=2),
        "*": keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=4),
    }


@pytest.mark.both_backends
@pytest.mark.parametrize("policy", quick(["float32", "mixed_float16"], "float32"))
@pytest.mark.parametrize("optimizer_map", quick(["dict", "OptimizerMap"], "dict"))
def test_an_interrupted_run_continues_exactly(tmp_path, policy, optimizer_map):
    if optimizer_map == "OptimizerMap" and BEFORE_OPTIMIZER_MAP:
        pytest.skip("needs Keras 3.15")

    def make_optimizer():
        if optimizer_map == "dict":
            return PartitionedOptimizer({**rich_map(), "*": keras.optimizers.Adam(0.01)})
        default = keras.optimizers.SGD(0.01, momentum=0.9)
        return PartitionedOptimizer(
            keras.optimizers.OptimizerMap(default, {"(.*/)?head/.*": sampler()})
        )

    # Without dropout, whose seeds Keras does not save.
    whole = make_model(make_optimizer(), policy, dropout=0.0)
    fit(whole, 4)
    part = make_model(make_optimizer(), policy, dropout=0.0)
    fit(part, 2)
    part.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert_same_state(part, loaded)
    fit(loaded, 4, initial_epoch=2)
    assert_same_state(whole, loaded)


@pytest.mark.slow
def test_a_backup_continues_exactly(tmp_path):
    class PowerCut(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def make():
        return make_model(PartitionedOptimizer({**rich_map(), "*": "adam"}), dropout=0.0)

    whole = make()
    fit(whole, 4)
    with pytest.raises(KeyboardInterrupt):
        fit(make(), 4, callbacks=[keras.callbacks.BackupAndRestore(tmp_path), PowerCut()])
    resumed = make()
    fit(resumed, 4, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    assert_same_state(whole, resumed)


def test_the_state_of_all_parts_is_listed_and_can_be_set():
    a, b = trained(PartitionedOptimizer(rich_map())), make_model(PartitionedOptimizer(rich_map()))
    paths = {v.path for v in a.optimizer.variables}
    for optimizer in a.optimizer.optimizers:
        assert {v.path for v in optimizer.variables} <= paths
    b.optimizer.build(b.trainable_variables)
    b.optimizer.set_weights([v.numpy() for v in a.optimizer.variables])
    for u, v in zip(a.optimizer.variables, b.optimizer.variables, strict=True):
        np.testing.assert_array_equal(u.numpy(), v.numpy(), err_msg=u.path)
    with pytest.raises(ValueError, match="zip"):
        b.optimizer.set_weights([0])


def test_averages_are_given_to_the_model_at_the_end():
    model = trained(
        PartitionedOptimizer(
            {"head/*": sampler(), "*": keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)}
        )
    )
    searched, descended = model.optimizer.optimizers
    averages = [v for v in descended.variables if v.path.endswith("_average")]
    assert len(averages) == 4
    for variable, average in zip(model.trainable_variables, averages):
        np.testing.assert_array_equal(variable.numpy(), average.numpy())
    for parameter in searched.parameters:
        kept = parameter.to_values(ops.copy(parameter.kept))
        np.testing.assert_allclose(parameter.variable.numpy(), kept, rtol=1e-6)


# Learning rates


def test_the_whole_has_no_learning_rate():
    optimizer = mixed()
    assert not hasattr(optimizer, "learning_rate")
    for use in (lambda: optimizer.learning_rate, lambda: setattr(optimizer, "learning_rate", 0.1)):
        with pytest.raises(AttributeError, match=r"optimizer\.optimizers\[0\]\.learning_rate"):
            use()


def test_callbacks_set_the_learning_rate_of_each_part_or_say_why_not():
    model = make_model(mixed())
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 * rate)
    if BEFORE_OPTIMIZER_MAP:
        with pytest.raises(ValueError, match="learning_rate"):
            fit(model, callbacks=[halve])
        with pytest.raises(AttributeError, match="no learning rate itself"):
            fit(model, callbacks=[keras.callbacks.ReduceLROnPlateau("loss")])
    else:
        logs = fit(model, 2, callbacks=[halve])
        np.testing.assert_allclose(logs["learning_rate_monte_carlo"], [0.025, 0.0125])
        np.testing.assert_allclose(logs["learning_rate_adam"], [0.005, 0.0025])


# Faults


def test_a_batch_without_a_finite_loss_stops_training_and_changes_no_weight():
    model = trained(
        PartitionedOptimizer({"head/*": sampler(), "normalization/*": CMAES(seed=0), "*": "adam"})
    )
    y = Y.copy()
    y[32:] = np.nan
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(model.get_weights())
    )
    with pytest.raises(ValueError, match=r"every candidate of partitioned .* NaN or infinite"):
        model.fit(X, y, batch_size=32, epochs=1, shuffle=False, verbose=0, callbacks=[watch])
    assert len(seen) == 3  # the second batch failed, the third was refused
    for before, after in zip(seen[1], model.get_weights()):
        np.testing.assert_array_equal(before, after)
    assert np.isfinite(fit(model, 1)["loss"][0])


def test_a_search_that_fails_takes_back_what_another_did():
    a, b, c = (keras.Variable([1.0], name=name) for name in "abc")
    optimizer = PartitionedOptimizer(
        {"a": sampler(keep="current"), "b": CMAES(seed=0), "c": keras.optimizers.SGD(0.1)}
    )
    # Finite where b is, and nowhere near it.
    optimizer.minimize(
        lambda: ops.sum(a**2 + c**2) + ops.sum(ops.where(b == 1.0, 0.0, float("nan"))), [a, b, c]
    )
    assert bool(optimizer.failed)
    np.testing.assert_array_equal([a.numpy(), b.numpy(), c.numpy()], np.ones((3, 1)))
    assert int(optimizer.optimizers[0].iterations) == 1
    optimizer.minimize(lambda: ops.sum(a**2 + b**2 + c**2), [a, b, c])
    assert not bool(optimizer.failed)
    assert (np.concatenate([a.numpy(), b.numpy(), c.numpy()]) != 1.0).all()


def test_a_last_batch_without_a_finite_loss_is_told_at_the_end_and_once():
    model = make_model(mixed())
    with pytest.raises(ValueError, match="Training stopped"):
        model.fit(X, np.full_like(Y, np.nan), batch_size=96, verbose=0)
    fit(model)


def test_nonfinite_candidates_of_all_searches_are_counted():
    model = make_model(
        PartitionedOptimizer(
            {
                "head/*": sampler(),
                "normalization/*": CMAES(generations_per_batch=1, seed=0),
                "*": "adam",
            }
        )
    )

    def fragile(y, y_pred):
        loss = ops.mean((y - y_pred) ** 2)
        return ops.where(ops.max(ops.abs(y_pred)) > limit, float("nan"), loss)

    limit = 1.2 * float(ops.max(ops.abs(model(X[:96], training=True))))
    model.compile(model.optimizer, fragile)
    logs = fit(model, 3, batch_size=96)
    counts = [int(o.extra_logs()["nonfinite_candidates"]) for o in model.optimizer.optimizers[:2]]
    assert logs["nonfinite_candidates"][-1] == sum(counts) > 0


def test_a_gradient_that_is_not_finite_does_what_it_does_in_keras():
    def root_of_zero(y, y_pred):
        return ops.mean(ops.sqrt(y_pred - y_pred))

    def kernel(optimizer):
        model = keras.Sequential([keras.Input((1,)), layers.Dense(1, name="head")])
        model.compile(optimizer, root_of_zero)
        model.fit(X[:, :1], Y, batch_size=96, verbose=0)
        return model.get_weights()[0]

    assert np.isnan(kernel("sgd")).all()
    assert np.isnan(kernel(PartitionedOptimizer({"*": "sgd"}))).all()
    assert np.isnan(kernel(PartitionedOptimizer({"bias": sampler(), "kernel": "sgd"}))).all()


def test_variables_behind_a_rounding_cannot_be_trained_by_gradients():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1, name="head")])
    model.compile(
        PartitionedOptimizer({"head/bias": sampler(), "*": "adam"}),
        lambda y, y_pred: ops.mean(ops.round(y_pred)),
    )
    with pytest.raises(ValueError, match=r"no gradient for the variables of 'adam'.*kernel"):
        fit(model)


def test_each_trainable_variable_needs_a_pattern_and_each_pattern_a_variable():
    for optimizer_map, match in (
        ({"head/*": sampler()}, r"'head/\*', which match none of 'sequential.*/hidden/kernel'"),
        ({"hed/*": sampler(), "*": "adam"}, r"'hed/\*', which matches none of 'sequential"),
        ({"*": "adam", "head/*": sampler()}, r"'head/\*', which gets none of 'sequential"),
    ):
        with pytest.raises(ValueError, match=match):
            fit(make_model(PartitionedOptimizer(optimizer_map)))


SHARED = keras.optimizers.Adam()


@pytest.mark.parametrize(
    ("optimizer_map", "error", "match"),
    [
        ({"*": "adamm"}, ValueError, r"names such as \"adam\".*Received: 'adamm' for '\*'"),
        ({"*": None}, ValueError, "Received: None"),
        ({"*": keras.layers.Dense}, ValueError, "must hold optimizers"),
        ({"*": {"class_name": "Adamm", "config": {}}}, ValueError, "Adamm"),
        ({}, ValueError, "must not be empty"),
        ("adam", TypeError, "must be a dict.*'adam'"),
        ([("*", "adam")], TypeError, "must be a dict"),
        ({"a": SHARED, "b": SHARED}, ValueError, "another optimizer for each.*'adam.*' twice"),
        ({"*": PartitionedOptimizer({"*": "sgd"})}, ValueError, "made of others"),
        ({"*": keras.optimizers.Adam(loss_scale_factor=2.0)}, ValueError, "leave .* out"),
        (
            {"*": keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())},
            ValueError,
            "leave `LossScaleOptimizer`",
        ),
    ],
)
def test_bad_maps(optimizer_map, error, match):
    with pytest.raises(error, match=match):
        PartitionedOptimizer(optimizer_map)


def test_names_configurations_and_classes_make_optimizers():
    adam = {"class_name": "Adam", "config": {"learning_rate": 0.5}}
    optimizer_map = {"a": "sgd", "b": adam, "c": keras.optimizers.RMSprop}
    sgd, adam, rmsprop = PartitionedOptimizer(optimizer_map).optimizers
    assert isinstance(sgd, keras.optimizers.SGD)
    assert float(adam.learning_rate) == 0.5
    assert isinstance(rmsprop, keras.optimizers.RMSprop)


def test_an_optimizer_serves_the_variables_that_it_was_built_for():
    model = trained(mixed())
    model.get_layer("hidden").trainable = False
    model.compile(model.optimizer, "mse")
    with pytest.raises(ValueError, match="make a new one"):
        fit(model)


def test_gradients_are_taken_for_what_they_train_only():
    a, b = (keras.Variable([1.0], name=name) for name in "ab")
    optimizer = PartitionedOptimizer({"a": sampler(), "b": keras.optimizers.SGD(0.5)})
    optimizer.build([a, b])
    optimizer.apply_gradients([(ops.ones(1), b)])
    optimizer.apply([ops.ones(1)])
    assert b.numpy() == 0.0
    with pytest.raises(ValueError, match=r"optimizer\.minimize\(loss_fn, variables\)"):
        optimizer.apply([ops.ones(1), ops.ones(1)], [a, b])
