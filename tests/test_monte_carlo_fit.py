"""MonteCarloOptimizer with what surrounds a training run: callbacks, schedules, files, faults."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from precision import ON_JAX
from tiers import UNCOMPILED, quick

from keras_extras.optimizers import CMAES, LBFGS, MonteCarloOptimizer, priors, transforms

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 4)).astype("float32")
Y = (X @ RNG.normal(size=(4, 1)) + 0.5).astype("float32")


def make_model(optimizer=None, dropout=0.0, **compile_kwargs):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, activation="relu", name="hidden"),
            layers.BatchNormalization(name="normalization"),
            layers.Dropout(dropout, seed=5),
            layers.Dense(1, name="head"),
        ]
    )
    model.compile(
        optimizer or MonteCarloOptimizer(0.05, population_size=32, seed=0),
        "mse",
        **{**UNCOMPILED, **compile_kwargs},
    )
    return model


def fit(model, epochs, initial_epoch=0, **kwargs):
    options = {"batch_size": 32, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(X, Y, epochs=epochs, initial_epoch=initial_epoch, **options).history


def assert_same_state(a, b):
    for u, v in zip(a.weights, b.weights):
        np.testing.assert_array_equal(u.numpy(), v.numpy(), err_msg=u.path)
    assert len(a.optimizer.variables) == len(b.optimizer.variables)
    for u, v in zip(a.optimizer.variables, b.optimizer.variables):
        np.testing.assert_array_equal(u.numpy(), v.numpy(), err_msg=u.path)


def rich_optimizer(use_ema=False, keep="average"):
    return MonteCarloOptimizer(
        keras.optimizers.schedules.ExponentialDecay(0.05, 5, 0.9),
        population_size=16,
        priors={"head/*": priors.Normal(0.0, 0.5), "hidden/bias": priors.HalfNormal(0.5)},
        transforms={"hidden/bias": transforms.Positive(), "head/kernel": transforms.Bounds(-2, 2)},
        update_probability=0.5,
        generations_per_batch=2,
        num_prior_samples=8,
        curvature="diagonal",
        keep="current" if use_ema else keep,
        use_ema=use_ema,
        ema_overwrite_frequency=7,
        weight_decay=0.001,
        seed=4,
    )


@pytest.mark.both_backends
@pytest.mark.parametrize(
    ("how", "policy"),
    [
        # On JAX the next test does, with a file.
        pytest.param("keras file", "mixed_float16", marks=[pytest.mark.slow] if ON_JAX else []),
        pytest.param("backup", "float32", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_continues_exactly(tmp_path, policy, how):
    """Without dropout, whose seeds Keras does not save, and with the weights as `fit` left them."""
    use_ema = how == "backup"

    def run(interrupt):
        keras.utils.clear_session()
        keras.config.set_dtype_policy(policy)
        keras.utils.set_random_seed(1)
        model = make_model(rich_optimizer(use_ema))
        if not interrupt:
            fit(model, 4)
        elif how == "keras file":
            fit(model, 2)
            model.save(tmp_path / "model.keras")
            keras.utils.set_random_seed(99)
            model = keras.models.load_model(tmp_path / "model.keras")
            fit(model, 4, initial_epoch=2)
        else:

            class PowerCut(keras.callbacks.Callback):
                def on_epoch_begin(self, epoch, logs=None):
                    if epoch == 2:
                        raise KeyboardInterrupt

            backup = keras.callbacks.BackupAndRestore(tmp_path)
            with pytest.raises(KeyboardInterrupt):
                fit(model, 4, callbacks=[backup, PowerCut()])
            keras.utils.set_random_seed(99)
            model = make_model(rich_optimizer(use_ema))
            fit(model, 4, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
        return model

    assert_same_state(run(interrupt=False), run(interrupt=True))


@pytest.mark.both_backends
def test_weights_and_state_survive_a_file(tmp_path):
    model = make_model(rich_optimizer())
    fit(model, 20)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert_same_state(model, loaded)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    intervals = (m.optimizer.confidence_intervals().values() for m in (model, loaded))
    for a, b in zip(*intervals):
        np.testing.assert_array_equal(a, b)


def test_steps_per_execution_changes_nothing():
    a, b = make_model(), make_model(steps_per_execution=3)
    b.set_weights(a.get_weights())
    fit(a, 2)
    fit(b, 2)
    for u, v in zip(a.weights, b.weights):
        np.testing.assert_allclose(u.numpy(), v.numpy(), rtol=1e-4, atol=1e-5)


def test_equal_seeds_train_equally_and_other_seeds_do_not():
    def weights(seed):
        keras.utils.set_random_seed(1)
        model = make_model(MonteCarloOptimizer(population_size=8, seed=seed))
        fit(model, 1)
        return model.get_weights()[0]

    np.testing.assert_array_equal(weights(1), weights(1))
    assert np.abs(weights(1) - weights(2)).max() > 1e-3


@pytest.mark.parametrize("seed", quick(range(3), 0))
def test_chunks_change_nothing(seed):
    def weights(chunk_size):
        keras.utils.set_random_seed(seed)
        model = make_model(
            MonteCarloOptimizer(population_size=16, seed=seed, chunk_size=chunk_size)
        )
        fit(model, 1)
        return model.get_weights()

    for u, v in zip(weights(None), weights(5)):
        np.testing.assert_allclose(u, v, rtol=1e-3, atol=1e-4)


def test_the_logged_loss_is_that_of_the_weights_kept():
    model = make_model()
    logs = fit(model, 1, batch_size=96)
    prediction = model(X, training=True)
    assert logs["loss"][0] == pytest.approx(float(ops.mean((prediction - Y) ** 2)), rel=1e-5)


@pytest.mark.both_backends
def test_metrics_validation_and_callbacks(tmp_path):
    model = make_model(metrics=["mae"])
    checkpoint = tmp_path / "best.keras"
    logs = fit(
        model,
        90,
        validation_data=(X, Y),
        callbacks=[
            keras.callbacks.ModelCheckpoint(checkpoint, monitor="val_loss", save_best_only=True),
            keras.callbacks.ReduceLROnPlateau("val_loss", patience=1, min_delta=0.05),
            keras.callbacks.EarlyStopping(
                "val_loss", patience=3, min_delta=0.05, restore_best_weights=True
            ),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        ],
    )
    assert {"loss", "mae", "val_loss", "val_mae", "learning_rate"} == set(logs)
    assert logs["learning_rate"][-1] < logs["learning_rate"][0]
    assert len(logs["loss"]) < 90
    best = keras.models.load_model(checkpoint).evaluate(X, Y, verbose=0)[0]
    assert best == pytest.approx(min(logs["val_loss"]), rel=1e-4)
    restored = model.evaluate(X, Y, verbose=0)[0]
    assert any(restored == pytest.approx(loss, rel=1e-4) for loss in logs["val_loss"][:-1])


def test_validation_split_datasets_and_train_on_batch():
    import tensorflow as tf

    model = make_model()
    assert "val_loss" in model.fit(X, Y, validation_split=0.25, verbose=0).history
    model.fit(
        tf.data.Dataset.from_tensor_slices((X, Y)).batch(30), epochs=2, shuffle=False, verbose=0
    )
    losses = [model.train_on_batch(X, Y) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert set(model.train_on_batch(X, Y, return_dict=True)) == {"loss"}


@pytest.mark.both_backends
def test_schedules_set_the_learning_rate():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.05, 0.0])
    model = make_model(MonteCarloOptimizer(schedule, 8, keep="current", seed=0))
    kernels = []

    class EachBatch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            kernels.append(self.model.get_weights()[0])

    fit(model, 2, callbacks=[EachBatch()])
    assert np.abs(kernels[2] - kernels[1]).max() > 0
    for later in kernels[3:]:
        np.testing.assert_array_equal(later, kernels[2])


def nan_rows(first):
    x = X.copy()
    x[first:] = np.nan
    return x


@pytest.mark.both_backends
def test_a_batch_without_a_finite_loss_stops_training_and_changes_no_weight():
    model = make_model()
    model.fit(X, Y, batch_size=32, epochs=1, shuffle=False, verbose=0)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(self.model.get_weights())

    with pytest.raises(ValueError, match=r"each pair of candidates .* NaN or infinite"):
        model.fit(
            nan_rows(32), Y, batch_size=32, epochs=1, shuffle=False, verbose=0, callbacks=[Watch()]
        )
    assert len(seen) == 3  # the second batch failed, the third was refused
    for before, after in zip(seen[1], model.get_weights()):
        np.testing.assert_array_equal(before, after)
    assert np.isfinite(fit(model, 1)["loss"][0])


def test_a_last_batch_without_a_finite_loss_is_told_at_the_end():
    model = make_model()
    with pytest.raises(ValueError, match="Training stopped"):
        model.fit(nan_rows(0), Y, batch_size=96, verbose=0)


def test_terminate_on_nan_ends_training_without_an_error():
    model = make_model()
    before = model.get_weights()
    logs = model.fit(
        nan_rows(0),
        Y,
        batch_size=32,
        epochs=3,
        verbose=0,
        callbacks=[keras.callbacks.TerminateOnNaN()],
    ).history
    assert np.isnan(logs["loss"]).all()
    assert len(logs["loss"]) == 1
    for u, v in zip(before, model.get_weights()):
        np.testing.assert_array_equal(u, v)


def test_some_candidates_without_a_finite_loss_are_left_out_and_counted():
    class Fragile(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(1,), initializer="ones", name="w")

        def call(self, x):
            return x * ops.where(self.w > 1.04, float("nan"), self.w)

    model = keras.Sequential([keras.Input((1,)), Fragile()])
    model.compile(MonteCarloOptimizer(0.01, 32, sigma=0.05, noise="normal", seed=0), "mse")
    x = np.ones((64, 1), "float32")
    logs = model.fit(x, 0.5 * x, batch_size=32, epochs=80, verbose=0).history
    assert logs["nonfinite_candidates"][0] > 0
    assert logs["nonfinite_candidates"][-1] < 80 * 2 * 32 / 4
    assert model.get_weights()[0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"population_size": 7}, ValueError, "must be even.*population_size=7"),
        ({"population_size": 2}, ValueError, "optimizers.SPSA` evaluates.*population_size=2"),
        ({"population_size": 0}, ValueError, "at least 4.*population_size=0"),
        ({"population_size": 2.5}, TypeError, "must be an integer"),
        ({"sigma": 0.0}, ValueError, "`sigma` must be greater than 0"),
        ({"sigma": float("nan")}, ValueError, "`sigma`"),
        ({"update_probability": 1.5}, ValueError, "at most 1"),
        ({"update_probability": 0.0}, ValueError, "greater than 0"),
        ({"noise": "cauchy"}, ValueError, "'sign', 'normal'"),
        ({"beta_2": 1.0}, ValueError, "`beta_2` must be less than 1"),
        ({"generations_per_batch": 0}, ValueError, "at least 1"),
        ({"chunk_size": 0}, ValueError, "at least 1"),
        ({"num_prior_samples": 5}, ValueError, "needs `priors`"),
        ({"priors": {"*": 1.0}}, TypeError, r"a prior, .* Received: 1.0 for '\*'"),
        ({"priors": [priors.Normal()]}, TypeError, "`priors` must be a dict"),
        ({"transforms": {"*": 1.0}}, TypeError, "a function"),
        ({"transforms": {"*": transforms.Positive}}, TypeError, "a function"),
        ({"gradient_accumulation_steps": 2}, ValueError, "computes no gradients"),
        ({"loss_scale_factor": 8.0}, ValueError, "computes no gradients"),
        ({"learnin_rate": 0.1}, ValueError, "learnin_rate"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        MonteCarloOptimizer(**arguments)


@pytest.mark.parametrize("level", [0.0, 1.0, 90])
def test_bad_confidence_level(level):
    model = make_model()
    fit(model, 1)
    with pytest.raises(ValueError, match="`level` must be"):
        model.optimizer.confidence_intervals(level)


def test_an_optimizer_serves_the_variables_that_it_was_built_for():
    model = make_model()
    fit(model, 1)
    model.get_layer("hidden").trainable = False
    model.compile(model.optimizer, "mse")
    with pytest.raises(ValueError, match="make a new optimizer"):
        fit(model, 1)
    model.compile(MonteCarloOptimizer(population_size=8), "mse")
    fit(model, 1)


@pytest.mark.both_backends
@pytest.mark.parametrize(
    ("loss_fn", "variables", "error", "match"),
    [
        (1.0, [keras.Variable(1.0)], TypeError, "`loss_fn` must be a function"),
        (lambda: 1.0, keras.Variable(1.0), TypeError, "must be a list of `keras.Variable`s"),
        (lambda: 1.0, [1.0], TypeError, "must be a list of `keras.Variable`s"),
        (lambda: ops.ones(2), [keras.Variable(1.0)], ValueError, r"a loss of shape \(2,\)"),
    ],
)
def test_bad_calls_of_minimize(loss_fn, variables, error, match):
    with pytest.raises(error, match=match):
        MonteCarloOptimizer(population_size=4).minimize(loss_fn, variables)


def test_a_fit_that_never_used_the_optimizer_ends_quietly():
    class Idle(keras.Sequential):
        def train_step(self, data):
            return {"loss": ops.zeros(())}

    model = Idle([keras.Input((4,)), layers.Dense(1)])
    model.compile(MonteCarloOptimizer(), "mse")
    model.fit(X, Y, verbose=0)


@pytest.mark.both_backends
def test_gradients_are_refused_with_the_way_out():
    optimizer = MonteCarloOptimizer()
    with pytest.raises(ValueError, match=r"optimizer\.minimize\(loss_fn, variables\)"):
        optimizer.apply([ops.ones(3)], [keras.Variable([0.0, 0.0, 0.0])])


def test_a_model_with_its_own_train_step_is_told_the_way_out():
    import tensorflow as tf

    class OwnStep(keras.Sequential):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = ops.mean((self(x) - y) ** 2)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
            return {"loss": loss}

    model = OwnStep([keras.Input((4,)), layers.Dense(1)])
    model.compile(MonteCarloOptimizer(), "mse")
    with pytest.raises(ValueError, match=r"overrides `train_step`.*optimizer\.minimize"):
        model.fit(X, Y, verbose=0)


def test_a_pattern_that_matches_nothing_stops_fit_before_the_first_step_however_often():
    model = make_model(MonteCarloOptimizer(priors={"*/gamna": priors.Normal()}))
    weights = model.get_weights()
    for _ in range(2):
        with pytest.raises(ValueError, match="'sequential/normalization/gamma'"):
            fit(model, 1)
        assert model.train_function is None, "none is left that errors and logs do not go through"
    np.testing.assert_equal(model.get_weights(), weights)


def test_training_goes_on_after_it_was_stopped_at_nan():
    model = make_model()
    fit(model, 1)
    stop = keras.callbacks.TerminateOnNaN()
    model.fit(np.full_like(X, np.nan), Y, batch_size=len(X), verbose=0, callbacks=[stop])
    assert np.isfinite(fit(model, 1)["loss"][0])


@pytest.mark.both_backends
@pytest.mark.parametrize("make", [MonteCarloOptimizer, CMAES, LBFGS])
def test_a_batch_that_fails_is_told_whichever_step_of_an_execution_it_was(make):
    model = make_model(make(), steps_per_execution=3)
    with pytest.raises(ValueError, match="Training stopped"):
        model.fit(nan_rows(0), Y, batch_size=32, epochs=2, shuffle=False, verbose=0)


@pytest.mark.parametrize("keep", ["average", "current"])
def test_variables_are_kept_out_of_weight_decay(keep):
    names = ("decayed", "kept", "named")
    decayed, kept, named = (keras.Variable([1.0, 1.0], name=name) for name in names)
    optimizer = MonteCarloOptimizer(0.1, population_size=8, weight_decay=0.5, keep=keep, seed=1)
    optimizer.exclude_from_weight_decay(var_list=[kept], var_names=["named"])
    for _ in range(5):
        optimizer.minimize(lambda: 0.0 * ops.sum(decayed + kept + named), [decayed, kept, named])
    np.testing.assert_array_equal(kept.numpy(), 1.0)
    np.testing.assert_array_equal(named.numpy(), 1.0)
    assert np.all(decayed.numpy() < 0.95)
