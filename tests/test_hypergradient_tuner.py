"""Searches that sample what is discrete and descend the gradient of what is continuous."""

import keras
import keras_tuner
import numpy as np
import pytest

from keras_extras import tuners, unrolled

RNG = np.random.default_rng(1)
X = RNG.normal(size=(160, 4)).astype("float32")
Y = (X[:, 0] * X[:, 1] > 0.0).astype("float32")[:, None]
TRAIN, VALIDATION = (X[:100], Y[:100]), (X[100:], Y[100:])


def build(hp):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(hp.Choice("units", [3, 12]), activation="tanh", name="hidden"),
            keras.layers.Dense(1, activation="sigmoid", name="output"),
        ]
    )
    optimizer = keras.optimizers.SGD(0.01, momentum=0.5)
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])
    return model


def make_tuner(directory, hyperparameters, objective="val_loss", **arguments):
    arguments = {"steps": 30, "batch_size": 25, "meta_steps": 6, **arguments}
    oracle = keras_tuner.oracles.GridSearchOracle(objective, max_trials=2)
    return tuners.HypergradientTuner(
        oracle, build, hyperparameters, directory=directory, **arguments
    )


@pytest.mark.both_backends
def test_each_trial_learns_its_hyperparameters(tmp_path):
    starts = {"learning_rate": unrolled.PerStep(0.1), "momentum": 0.5, "l2/hidden/kernel": 1e-3}
    adam = keras.optimizers.Adam(0.3)
    tuner = make_tuner(tmp_path, starts, meta_steps=10, meta_optimizer=adam)
    tuner.search(*TRAIN, validation_data=VALIDATION, verbose=0)
    assert len(tuner.oracle.trials) == 2
    for trial in tuner.oracle.get_best_trials(2):
        assert trial.status == "COMPLETED"
        learned = tuner.learned(trial)
        assert learned["learning_rate"].shape == (30,)
        assert learned["learning_rate"].mean() > 0.2
        plain = tuner.hypermodel.build(trial.hyperparameters)
        fixed = unrolled.UnrolledTraining(
            plain, plain.optimizer, "binary_crossentropy", 30, starts, batch_size=25
        )
        before = fixed.run(*TRAIN, validation_data=VALIDATION).validation_loss
        assert trial.score < before - 0.01

    best = tuner.oracle.get_best_trials()[0]
    model = tuner.get_best_models()[0]
    loss, accuracy = model.evaluate(*VALIDATION, verbose=0)
    assert loss == pytest.approx(best.score, rel=1e-5)
    assert accuracy == pytest.approx(best.metrics.get_best_value("val_accuracy"), rel=1e-5)
    model.save(tmp_path / "best.keras")
    loaded = keras.models.load_model(tmp_path / "best.keras")
    np.testing.assert_allclose(loaded.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_search_is_taken_up_again(tmp_path):
    make_tuner(tmp_path, {"learning_rate": 0.02}, meta_steps=1).search(
        *TRAIN, validation_data=VALIDATION, verbose=0
    )
    again = make_tuner(tmp_path, {"learning_rate": 0.02}, meta_steps=1)
    assert len(again.oracle.trials) == 2
    assert again.learned(again.oracle.get_best_trials()[0])["learning_rate"].shape == ()


def test_starts_can_depend_on_what_is_sampled_and_any_metric_can_be_the_objective(tmp_path):
    tuner = make_tuner(
        tmp_path,
        lambda hp: {"learning_rate": 0.1 / hp.get("units")},
        keras_tuner.Objective("val_accuracy", "max"),
        meta_steps=1,
    )
    tuner.search(*TRAIN, validation_data=VALIDATION, verbose=0)
    rates = {
        trial.hyperparameters.get("units"): float(tuner.learned(trial)["learning_rate"])
        for trial in tuner.oracle.trials.values()
    }
    assert rates[3] > 2 * rates[12]


@pytest.mark.both_backends
def test_bad_arguments(tmp_path):
    with pytest.raises(TypeError, match="`hyperparameters` must be a dict"):
        make_tuner(tmp_path, ["learning_rate"])
    with pytest.raises(ValueError, match="`meta_steps` must be at least 1"):
        make_tuner(tmp_path, {"learning_rate": 0.1}, meta_steps=0)


def test_data_that_fit_no_trial_end_the_search(tmp_path):
    tuner = make_tuner(tmp_path, {"learning_rate": 0.1})
    with pytest.raises(ValueError, match="`y` must be finite"):
        tuner.search(X, Y * np.nan, validation_data=VALIDATION, verbose=0)
    with pytest.raises(ValueError, match="`x` must hold real numbers"):
        tuner.search(*TRAIN, validation_data=(X + 1j, Y), verbose=0)
    with pytest.raises(ValueError, match="`y` must have the shape of the outputs"):
        tuner.search(X, np.tile(np.reshape(Y, (len(X), -1))[:, :1], 3), VALIDATION, verbose=0)


def test_searches_that_cannot_run_are_refused_before_a_trial(tmp_path):
    tuner = make_tuner(tmp_path, {"learning_rate": 0.1})
    for validation in ({}, {"validation_data": VALIDATION[0]}):
        with pytest.raises(ValueError, match=r"`validation_data` must be a tuple .*x_val, y_val"):
            tuner.search(*TRAIN, **validation)
    with pytest.raises(TypeError, match=r"arguments of the tuner. Received: epochs"):
        tuner.search(*TRAIN, validation_data=VALIDATION, epochs=3)
    assert not tuner.oracle.trials
    objectives = [keras_tuner.Objective("val_loss", "min"), "val_accuracy"]
    with pytest.raises(ValueError, match="`oracle` must have one objective"):
        make_tuner(tmp_path, {"learning_rate": 0.1}, objectives)
