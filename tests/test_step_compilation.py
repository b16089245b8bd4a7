"""Steps of searches are compiled by XLA when they have cost what compiling costs."""

import gc
import logging
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from precision import needs_tensorflow

from keras_extras._seams.compile_arguments import leaves_compilation_open
from keras_extras.optimizers import CMAES, LBFGS, SPSA, MonteCarloOptimizer, step_compilation

pytestmark = needs_tensorflow
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype("float32")
Y = X[:, :2] * [[1.0, -1.0]]
SEARCHES = {
    "monte_carlo": lambda: MonteCarloOptimizer(0.01, population_size=8, seed=0),
    "spsa": lambda: SPSA(0.01, 0.01, seed=0),
}


def make_model(optimizer, loss="mse", **compile_arguments):
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(3, activation="tanh")
    model = keras.Sequential([keras.Input((4,)), dense, keras.layers.Dense(2)])
    model.compile(optimizer, loss, **compile_arguments)
    return model


@pytest.fixture
def after_four_updates(monkeypatch):
    """Compiling costs as much as four updates, as far as the optimizers know."""
    for cls in (MonteCarloOptimizer, SPSA, CMAES):
        monkeypatch.setattr(cls, "work_per_update", lambda self: step_compilation._OF_COMPILING / 4)
    monkeypatch.setattr(step_compilation, "_MANY_TIMES", 1_000)


def compiled_at(model, epochs=10, **arguments):
    """Trains, and returns the number of executions before the first compiled one, or `None`."""
    states = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: states.append("XLA after" in repr(model.optimizer))
    )
    model.fit(X, Y, epochs=epochs, verbose=0, callbacks=[note], **arguments)
    return states.index(True) if any(states) else None


@pytest.mark.parametrize("name", SEARCHES)
def test_steps_are_compiled_after_their_work(name, after_four_updates, caplog):
    model = make_model(SEARCHES[name](), metrics=["mae"])
    with caplog.at_level(logging.INFO, "keras_extras"):
        assert compiled_at(model, batch_size=20, validation_data=(X, Y)) == 4
    assert "compiled by XLA" in caplog.text
    assert "steps compiled by XLA after 4 updates" in repr(model.optimizer)
    assert int(model.optimizer.iterations) == 20
    assert set(model.history.history) == {"loss", "mae", "val_loss", "val_mae"}


def test_a_fit_too_short_to_compile_is_traced_once_and_a_later_one_compiles(after_four_updates):
    calls = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            calls.append(1)
            return x

    model = make_model(MonteCarloOptimizer(0.01, population_size=8, seed=0))
    model = keras.Sequential([keras.Input((4,)), Counted(), *model.layers])
    model.compile(MonteCarloOptimizer(0.01, population_size=8, seed=0), "mse")
    assert compiled_at(model, epochs=2, batch_size=40) is None
    made, times = model.train_function, len(calls)
    assert compiled_at(model, epochs=1, batch_size=40) is None
    assert model.train_function is made
    assert len(calls) == times
    assert compiled_at(model, epochs=2, batch_size=40) == 1
    assert model.train_function is not made
    assert "after 4 updates" in repr(model.optimizer)


def test_batches_of_a_loop_after_a_short_fit_are_compiled(after_four_updates):
    model = make_model(MonteCarloOptimizer(0.01, population_size=8, seed=0))
    model.fit(X, Y, batch_size=40, epochs=2, verbose=0)
    for _ in range(3):
        model.train_on_batch(X, Y)
    assert "compiled by XLA after 4 updates" in repr(model.optimizer)


def test_compiled_steps_are_those_of_jit_compile(after_four_updates):
    model = make_model(MonteCarloOptimizer(0.01, population_size=8, seed=0))
    model.fit(X, Y, batch_size=20, epochs=2, verbose=0)
    assert "XLA" not in repr(model.optimizer)
    other = make_model(MonteCarloOptimizer(0.01, population_size=8, seed=0), jit_compile=True)
    other.optimizer.build(other.trainable_variables)
    for ours, theirs in zip(model.optimizer.variables, other.optimizer.variables):
        theirs.assign(ours)
    other.set_weights(model.get_weights())
    for trained in (model, other):
        trained.fit(X, Y, batch_size=20, epochs=5, shuffle=False, verbose=0)
        assert "compiled by XLA" in repr(trained.optimizer)
    for ours, theirs in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(model.optimizer.variables, other.optimizer.variables):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_seeded_runs_repeat_and_may_be_taken_up_across_the_switch(after_four_updates):
    whole, again, parts = (make_model(SEARCHES["monte_carlo"]()) for _ in range(3))
    for model, epochs in ((whole, [9]), (again, [9]), (parts, [3, 4, 2])):
        for count in epochs:
            model.fit(X, Y, batch_size=40, epochs=count, shuffle=False, verbose=0)
    for model in (again, parts):
        for ours, theirs in zip(model.get_weights(), whole.get_weights()):
            np.testing.assert_array_equal(ours, theirs)


def test_a_long_fit_begins_with_it(after_four_updates, monkeypatch):
    monkeypatch.setattr(step_compilation, "_MANY_TIMES", 5)
    assert compiled_at(make_model(SEARCHES["spsa"]()), epochs=9, batch_size=20) == 4
    assert compiled_at(make_model(SEARCHES["spsa"]()), epochs=10, batch_size=20) == 1
    assert compiled_at(make_model(SEARCHES["spsa"]()), batch_size=30, validation_split=0.25) == 4


@pytest.mark.parametrize("flag", [True, False])
def test_a_given_flag_means_what_it_says(flag, after_four_updates):
    model = make_model(SEARCHES["spsa"](), jit_compile=flag)
    assert compiled_at(model) is None
    assert model.jit_compile is flag
    said = "compiled by XLA" if flag else "not compiled by XLA: jit_compile=False"
    assert repr(model.optimizer) == f"<SPSA 'spsa', steps {said}>"


def test_what_compile_says_is_as_before(after_four_updates, tmp_path):
    model = make_model(SEARCHES["spsa"]())
    before = model.get_compile_config()
    compiled_at(model)
    assert model.jit_compile is False
    after = model.get_compile_config()
    assert {k: v for k, v in before.items() if k != "optimizer"} == {
        k: v for k, v in after.items() if k != "optimizer"
    }
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    model.compile(SEARCHES["spsa"](), "mse", jit_compile=False)
    assert compiled_at(model) is None


class OfText(keras.losses.Loss):
    """Has an operation that XLA lacks."""

    def call(self, y_true, y_pred):
        digits = tf.strings.length(tf.strings.as_string(y_true[:, 0]))
        return keras.ops.mean((y_true - y_pred) ** 2, 1) + 0.0 * tf.cast(digits, "float32")


def test_a_loss_that_xla_lacks_trains_on(after_four_updates, recwarn, caplog):
    model = make_model(SEARCHES["monte_carlo"](), OfText())
    plain = make_model(SEARCHES["monte_carlo"](), OfText(), jit_compile=False)
    with caplog.at_level(logging.INFO, "keras_extras"):
        assert compiled_at(model, shuffle=False) is None
    plain.fit(X, Y, epochs=10, shuffle=False, verbose=0)
    assert model.history.history == plain.history.history
    assert "it has no instructions for some operation" in repr(model.optimizer)
    assert "AsString" in caplog.text
    assert not recwarn.list


def test_what_xla_is_slower_at_stays_as_it_is(after_four_updates, monkeypatch):
    model = make_model(CMAES(generations_per_batch=1, seed=0))
    assert compiled_at(model, batch_size=40) is None
    assert "SelfAdjointEigV2 is slower so on a CPU" in repr(model.optimizer)
    monkeypatch.setattr(step_compilation, "_MANY_DRAWS", 20)
    model = make_model(MonteCarloOptimizer(population_size=8, noise="normal", seed=0))
    assert compiled_at(model, batch_size=40) is None
    assert "StatelessRandomNormalV2 is slower so on a CPU" in repr(model.optimizer)


def test_other_optimizers_are_compiled_as_compile_says(after_four_updates):
    model = make_model(LBFGS())
    model.fit(X, Y, batch_size=40, verbose=0)
    assert repr(model.optimizer) == "<LBFGS 'lbfgs', steps compiled as `compile` says>"


def test_only_batches_of_full_size_are_compiled(after_four_updates):
    model = make_model(SEARCHES["monte_carlo"]())
    other = make_model(SEARCHES["monte_carlo"](), jit_compile=False)
    for trained in (model, other):
        trained.fit(X, Y, batch_size=16, epochs=4, shuffle=False, verbose=0)
    np.testing.assert_allclose(
        model.history.history["loss"], other.history.history["loss"], rtol=1e-3
    )
    assert "compiled by XLA after 4" in repr(model.optimizer)


def test_several_steps_in_an_execution_and_batches_of_a_loop(after_four_updates):
    model = make_model(SEARCHES["spsa"](), steps_per_execution=3)
    assert compiled_at(model, batch_size=20) == 2
    model = make_model(SEARCHES["spsa"]())
    for _ in range(6):
        model.train_on_batch(X, Y)
    assert "compiled by XLA after 4 updates" in repr(model.optimizer)


def test_batches_of_many_shapes_and_text_stay_as_they_are(after_four_updates):
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.GlobalAveragePooling1D()])
    model.add(keras.layers.Dense(2))
    model.compile(SEARCHES["spsa"](), "mse")

    def batches():
        for length in (3, 5, 4, 3, 6, 7):
            yield np.repeat(X[:, None], length, axis=1), Y

    data = tf.data.Dataset.from_generator(
        batches,
        output_signature=(
            tf.TensorSpec((None, None, 4), tf.float32),
            tf.TensorSpec((None, 2), tf.float64),
        ),
    )
    model.fit(data.repeat(), verbose=0, steps_per_epoch=6, shuffle=False)
    assert "shapes of batches are not known" in repr(model.optimizer)


def test_a_failed_step_is_reported_before_the_next(after_four_updates):
    model = make_model(SEARCHES["monte_carlo"]())
    bad = np.concatenate([X, X * np.nan])
    with pytest.raises(ValueError, match="Training stopped"):
        model.fit(bad, np.concatenate([Y, Y]), batch_size=10, epochs=3, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 4
    assert "compiled by XLA after 4" in repr(model.optimizer)


def test_an_optimizer_holds_no_model():
    optimizer = SEARCHES["spsa"]()
    model = make_model(optimizer)
    model.fit(X, Y, verbose=0)
    held = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert held() is None
    assert "SPSA" in repr(optimizer)


def test_canary_compile_asks_keras_to_choose():
    model = make_model(SEARCHES["spsa"](), jit_compile=False)
    assert not leaves_compilation_open(model)
    model.compile(SEARCHES["spsa"](), "mse")
    assert leaves_compilation_open(model)
    model.compile("adam", "mse", jit_compile=True)
    assert not leaves_compilation_open(model)
