"""Searches that are taken up again, and what users of keras-tuner meet in the meantime."""

import functools
import os

import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.hyperparameters import Float

from keras_extras import tuners

X = np.random.default_rng(0).normal(size=(60, 6)).astype("float32")
Y = (X[:, :1] > 0.0).astype("float32")
ORACLES = keras_tuner.oracles
SMALL = {"hidden_layers": 1, "batch_size": 64, "epochs": 1}


def tabular(**space):
    return tuners.TabularHyperModel(6, space={**SMALL, "units": [2, 4], **space})


class Search(keras_tuner.RandomSearch):
    """Takes the time of no training, and counts its trials."""

    runs = 0

    def run_trial(self, trial, **kwargs):
        self.runs += 1
        return float(trial.trial_id)


class Killed(Exception):
    pass


class Mortal(Search):
    """Dies right after the end of its second trial."""

    def on_trial_end(self, trial):
        if trial.trial_id == "0":
            super().on_trial_end(trial)
        else:
            self.oracle.end_trial(trial)
            raise Killed


def search(directory, hypermodel, max_trials=2, kind=Search, **arguments):
    return kind(
        hypermodel,
        keras_tuner.Objective("score", "min"),
        max_trials,
        seed=1,
        directory=directory,
        **arguments,
    )


def values_of(tuner):
    return {key: trial.hyperparameters.values for key, trial in tuner.oracle.trials.items()}


def run(tuner):
    tuner.search(verbose=0)
    return tuner


def test_a_search_that_is_taken_up_repeats_no_finished_trial(tmp_path):
    with pytest.raises(Killed):
        run(search(tmp_path, tabular(), 4, Mortal))
    again = run(search(tmp_path, tabular(), 4))
    assert again.runs == 2
    whole = run(search(tmp_path, tabular(), 4, project_name="whole"))
    assert values_of(again) == values_of(whole)


def test_what_a_search_writes_is_whole(tmp_path, monkeypatch):
    """Stock keras-tuner writes over the file that was there."""
    tuner = run(search(tmp_path, tabular()))
    files = {path: path.read_text() for path in tmp_path.rglob("*.json")}
    assert {path.name for path in files} >= {"oracle.json", "trial.json", "tuner0.json"}

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    for trial in tuner.oracle.trials.values():
        trial.score = -1.0
        with pytest.raises(OSError, match="No space left"):
            trial.save(str(tmp_path / "untitled_project" / f"trial_{trial.trial_id}/trial.json"))
    assert {path: path.read_text() for path in tmp_path.rglob("*.json")} == files


def test_a_project_of_another_space_is_refused_by_name(tmp_path):
    run(search(tmp_path, tabular()))
    search(tmp_path, tabular())
    other = tabular(
        units=[2, 8], dropout=0.1, learning_rate=Float("rate", 1e-3, 1e-2, sampling="log")
    )
    with pytest.raises(ValueError, match="must have the space of the hypermodel") as error:
        search(tmp_path, other)
    assert "only there 'dropout', 'learning_rate'" in str(error.value)
    assert "only here 'rate'" in str(error.value)
    assert "of other values 'units'" in str(error.value)
    search(tmp_path, other, overwrite=True)


def test_what_the_tuner_is_given_goes_before_the_space(tmp_path):
    def make():
        given = keras_tuner.HyperParameters()
        given.Float("dropout", 0.2, 0.3)
        return search(tmp_path, tabular(), hyperparameters=given)

    for trial in run(make()).oracle.trials.values():
        assert 0.2 <= trial.hyperparameters.get("dropout") <= 0.3
    assert len(make().oracle.trials) == 2


def test_models_may_search_more_than_the_space_lists(tmp_path):
    def network(hp):
        hidden = [keras.layers.Dense(hp.Int("width", 1, 3))] if hp.Boolean("deep") else []
        return keras.Sequential([*hidden, keras.layers.Dense(1, "sigmoid")])

    def make(**space):
        space = {"population_size": 4, "batch_size": 64, "epochs": 1, **space}
        hypermodel = tuners.MonteCarloHyperModel(network, "binary_crossentropy", space=space)
        return search(tmp_path, hypermodel, max_trials=3)

    run(make())
    assert len(make().oracle.trials) == 3
    with pytest.raises(ValueError, match="of other values 'sigma'"):
        make(sigma=Float("sigma", 0.2, 0.3))


def test_objectives_and_inputs_that_no_trial_can_take_end_the_search_at_once(tmp_path):
    pipeline = tuners.AutoencoderClassifierHyperModel(
        6,
        metrics=["accuracy"],
        space={"autoencoder_epochs": 1, "form": "dense", "autoencoder_optimizer": "adam"},
    )
    for name, hypermodel in {"tabular": tabular(), "pipeline": pipeline}.items():
        objective = keras_tuner.Objective("val_acc", "max")
        tuner = keras_tuner.RandomSearch(
            hypermodel, objective, directory=tmp_path, project_name=name
        )
        with pytest.raises(ValueError, match=r"'loss'.*'val_loss'.*Received: 'val_acc'"):
            tuner.search(X, Y, validation_data=(X, Y), epochs=1, verbose=0)
        assert len(tuner.oracle.trials) == 1
        with pytest.raises(ValueError, match=r"rows of shape \(6,\).*x.shape=\(60, 5\)"):
            tuner.search(X[:, :5], Y, validation_data=(X, Y), epochs=1, verbose=0)
        assert len(tuner.oracle.trials) == 1, "it is taken up again"


@pytest.mark.parametrize(
    "make_oracle",
    [
        lambda objective: ORACLES.RandomSearchOracle(objective, max_trials=20, seed=1),
        lambda objective: ORACLES.GridSearchOracle(objective, max_trials=20, seed=1),
        lambda objective: ORACLES.HyperbandOracle(objective, max_epochs=9, seed=1),
        lambda objective: ORACLES.BayesianOptimizationOracle(
            objective, max_trials=6, num_initial_points=4, seed=1
        ),
    ],
    ids=["random", "grid", "hyperband", "bayesian"],
)
@pytest.mark.filterwarnings("ignore:The optimal value found for dimension")
def test_no_trial_has_values_of_conditions_that_do_not_hold(tmp_path, make_oracle):
    every = tuners.AutoencoderClassifierHyperModel(6).space
    searched = {
        "form": ["diagonal", "tensor"],
        "latent_units": [2, 3],
        "tensor_order": [3, 4],
        "autoencoder_optimizer": ["adam", "monte_carlo"],
        "autoencoder_learning_rate": [1e-3, 1e-2],
        "autoencoder_population_size": 64,
    }
    fixed = {key: getattr(entry, "default", entry) for key, entry in every.items()}
    hypermodel = tuners.AutoencoderClassifierHyperModel(6, space=fixed | searched)

    class Scored(keras_tuner.Tuner):
        def run_trial(self, trial, **kwargs):
            return float(len(trial.hyperparameters.values))

    objective = keras_tuner.Objective("score", "min")
    tuner = Scored(make_oracle(objective), hypermodel, directory=tmp_path)
    tuner.search(verbose=0)
    records = tuners.SearchReport.from_tuner(tuner).trials
    assert len({record.values["form"] for record in records}) > 1
    for record in records:
        assert ("tensor_order" in record.values) is (record.values["form"] == "tensor")
        assert ("latent_units" in record.values) is (record.values["form"] != "tensor")
        by_gradient = record.values["autoencoder_optimizer"] != "monte_carlo"
        assert ("autoencoder_learning_rate" in record.values) is by_gradient


class Grid(keras_tuner.GridSearch):
    """Dies inside the trials that it is given."""

    dies_in = None
    runs = 0

    def run_trial(self, trial, **kwargs):
        if int(trial.trial_id) == self.dies_in:
            raise keras_tuner.errors.FatalRuntimeError("killed")
        self.runs += 1
        self.hypermodel.build(trial.hyperparameters)
        return float(trial.trial_id)


@pytest.mark.parametrize("killed_in", [0, 3, 7])
def test_a_grid_that_is_resumed_visits_all_and_nothing_twice(tmp_path, killed_in):
    space = {"activation": ["relu", "tanh"], "units": [2, 3, 4], "hidden_layers": [1, 2]}
    fixed = {key: getattr(v, "default", v) for key, v in tabular().space.items()}

    def make(name="killed", **arguments):
        hypermodel = tuners.TabularHyperModel(6, space={**fixed, **space})
        return search(tmp_path, hypermodel, None, Grid, project_name=name, **arguments)

    tuner = make()
    tuner.dies_in = killed_in
    with pytest.raises(RuntimeError, match="killed"):
        run(tuner)
    again = run(make())
    assert again.runs == 12 - killed_in
    whole = run(make("whole"))
    assert sorted(map(str, values_of(again).values())) == sorted(
        map(str, values_of(whole).values())
    )
    assert len({str(values) for values in values_of(again).values()}) == 12
    assert run(make()).runs == 0

    first = search(tmp_path, whole.hypermodel, 3, Grid, project_name="more")
    run(first)
    more = run(search(tmp_path, whole.hypermodel, 8, Grid, project_name="more"))
    assert (more.runs, len(more.oracle.trials)) == (5, 8)


def test_a_grid_over_logarithmic_integers_hands_out_integers(tmp_path):
    """keras-tuner computes 32.0 for them, which no layer takes as its units."""
    tuner = search(tmp_path, tuners.TabularHyperModel(6), 6, Grid)
    run(tuner)
    for trial in tuner.oracle.trials.values():
        assert trial.status == "COMPLETED"
        assert type(trial.hyperparameters.get("units")) is int
        assert type(trial.hyperparameters.get("batch_size")) is int


def test_a_trial_that_was_saved_before_its_search_has_not_begun(tmp_path):
    tuner = search(tmp_path, tabular(), 3)
    tuner.save()
    trial = tuner.oracle.create_trial("tuner0")
    tuner.oracle.update_trial(trial.trial_id, {"score": 0.0})
    trial.status = "COMPLETED"
    tuner.oracle.end_trial(trial)
    state = (tmp_path / "untitled_project/oracle.json").read_text()
    tuner.oracle.create_trial("tuner0")
    (tmp_path / "untitled_project/oracle.json").write_text(state)
    again = run(search(tmp_path, tabular(), 3))
    assert again.runs == 2
    assert sorted(again.oracle.trials) == ["0", "1", "2"]


def function_of_units(hp):
    return hp.Choice("units", [2, 4, 8])


def stock_search(directory, **arguments):
    class Stock(keras_tuner.Tuner):
        def run_trial(self, trial, **kwargs):
            return float(trial.trial_id)

        def _populate_initial_space(self):
            function_of_units(self.oracle.get_space())

    oracle = ORACLES.RandomSearchOracle(keras_tuner.Objective("score", "min"), 2, seed=1)
    return Stock(oracle, function_of_units, directory=directory, **arguments)


def test_searches_of_other_hypermodels_stay_as_they_are(tmp_path, monkeypatch):
    stock = keras_tuner.engine.base_tuner.BaseTuner.reload
    ours = run(search(tmp_path, tabular(), project_name="ours"))
    assert keras_tuner.engine.base_tuner.BaseTuner.reload is stock
    replaced = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: replaced.append(paths) or replace(*paths))
    other = run(stock_search(tmp_path, project_name="other"))
    assert not replaced
    assert "reload" not in vars(other)
    ours.save()
    assert replaced


def test_oracles_with_a_state_of_another_form_are_resumed(tmp_path):
    class Bare(ORACLES.RandomSearchOracle):
        def get_state(self):
            return {"seen": len(self.trials)}

        def set_state(self, state):
            self.seen = state["seen"]

    class Scored(keras_tuner.Tuner):
        def run_trial(self, trial, **kwargs):
            return 0.0

    def make():
        oracle = Bare(keras_tuner.Objective("score", "min"), max_trials=2)
        return Scored(oracle, tabular(), directory=tmp_path)

    run(make())
    assert make().oracle.seen == 2


def test_another_library_may_wrap_the_constructor_before_and_after(tmp_path, monkeypatch):
    base = keras_tuner.engine.base_tuner.BaseTuner
    stock = base.__init__
    while hasattr(stock, "__wrapped__"):
        stock = stock.__wrapped__
    calls = []

    def wrapped(method, name):
        @functools.wraps(method)
        def call(self, *args, **kwargs):
            calls.append(name)
            return method(self, *args, **kwargs)

        return call

    monkeypatch.setattr(base, "__init__", wrapped(stock, "before"))
    hypermodel = tabular()
    base.__init__ = wrapped(base.__init__, "after")
    around = base.__init__
    tabular()
    assert base.__init__ is around
    tuner = search(tmp_path, hypermodel)
    assert calls == ["after", "before"]
    assert "reload" in vars(tuner)


def test_spaces_that_contradict_themselves_or_leave_nothing():
    with pytest.raises(
        ValueError, match=r"'tensor_order' .* only where 'form' is 'tensor'. Received: 'form' of"
    ):
        tuners.AutoencoderClassifierHyperModel(
            6, space={"form": ["dense", "log"], "tensor_order": [3, 4]}
        )
    with pytest.raises(ValueError, match="only where 'weights' is 'mc_dropout'"):
        tuners.BayesianHyperModel(6, 60, space={"weights": "flipout", "dropout_rate": 0.1})
    every = dict.fromkeys(tabular().space, 1)
    with pytest.raises(ValueError, match="must leave something to search"):
        tuners.TabularHyperModel(6, space=every)


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        ({"learning_rate": -1.0}, ValueError, r"`learning_rate` must be greater than 0.*-1.0"),
        ({"learning_rate": [1e-3, np.nan]}, ValueError, "`learning_rate` must be .*finite"),
        (
            {"learning_rate": Float("rate", -1.0, 1.0)},
            ValueError,
            "`learning_rate` must be greater",
        ),
        ({"learning_rate": "fast"}, TypeError, "`learning_rate` must be a number"),
        ({"weight_decay": -0.1}, ValueError, "`weight_decay` must be at least 0"),
        ({"dropout": 1.5}, ValueError, "`dropout` must be at least 0 and at most 1"),
        ({"units": [8, 0]}, ValueError, "`units` must be at least 1"),
        ({"batch_size": 2.5}, TypeError, "`batch_size` must be an integer"),
        ({"batch_normalization": "no"}, ValueError, "`batch_normalization` must be one of True"),
    ],
)
def test_entries_out_of_range(space, error, message):
    with pytest.raises(error, match=message):
        tuners.TabularHyperModel(6, space=space)


def test_entries_in_range_are_taken():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    tuners.TabularHyperModel(
        6, space={"learning_rate": schedule, "weight_decay": 0, "hidden_layers": 0, "epochs": None}
    )
