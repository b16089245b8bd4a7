"""Searches that meet in a folder: of one process and of several, of ours and of stock tuners."""

import os
import stat
import threading
from pathlib import Path

import keras_tuner
import numpy as np
import pytest

from keras_extras import tuners
from keras_extras.tuners import chief, project

OBJECTIVE = keras_tuner.Objective("score", "min")


class Search(keras_tuner.RandomSearch):
    """Takes the time of no training, and counts its trials."""

    runs = 0

    def run_trial(self, trial, meanwhile=None, **kwargs):
        self.runs += 1
        if meanwhile is not None:
            meanwhile()
        return float(trial.trial_id)


def make(directory, max_trials=3, **arguments):
    hypermodel = tuners.TabularHyperModel(3, space={"units": [2, 4, 8]})
    return Search(hypermodel, OBJECTIVE, max_trials, seed=1, directory=directory, **arguments)


@pytest.fixture
def part(monkeypatch):
    """Gives this process a part in a search over several."""

    def take(name):
        monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
        monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
        monkeypatch.setenv("KERASTUNER_TUNER_ID", name)

    yield take
    for lock in project._locks.values():
        lock.release()
    project._locks.clear()
    chief._handed.clear()
    chief._names.clear()


def test_a_chief_and_a_search_in_one_process_take_each_other_up(tmp_path, part, monkeypatch):
    tuner = make(tmp_path)
    tuner.search(verbose=0)
    part("chief")
    several = make(tmp_path, 5)
    assert len(several.oracle.trials) == 3
    several.save()
    monkeypatch.undo()
    (tmp_path / "untitled_project/tuner0.json").unlink()
    part("chief")
    make(tmp_path, 5).save()
    monkeypatch.undo()
    for lock in project._locks.values():
        lock.release()
    project._locks.clear()
    alone = make(tmp_path, 5)
    assert len(alone.oracle.trials) == 3
    alone.search(verbose=0)
    assert alone.runs == 2


def test_a_worker_that_is_started_again_takes_its_space_from_the_chief(tmp_path, part):
    make(tmp_path).search(verbose=0)
    part("worker0")
    make(tmp_path).save()
    assert (tmp_path / "untitled_project/worker0.json").exists()
    assert not hasattr(make(tmp_path).oracle, "trials")


def test_a_worker_deletes_nothing(tmp_path, part):
    make(tmp_path).search(verbose=0)
    before = sorted(tmp_path.rglob("*"))
    part("worker0")
    make(tmp_path, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_two_searches_in_one_folder_are_refused_while_one_goes_on(tmp_path, part):
    tuner = make(tmp_path)

    def meanwhile():
        refused = []

        def again(call):
            with pytest.raises(RuntimeError, match="Another search goes on in"):
                call()
            refused.append(call)

        threads = [
            threading.Thread(target=again, args=(call,))
            for call in (
                lambda: make(tmp_path).search(verbose=0),
                lambda: make(tmp_path, overwrite=True),
            )
        ]
        for thread in threads:
            thread.start()
            thread.join()
        assert len(refused) == 2

    tuner.search(meanwhile, verbose=0)
    assert (tuner.runs, len(make(tmp_path).oracle.trials)) == (3, 3)
    tuner.search(verbose=0)
    assert tuner.runs == 3


def test_a_tuner_searches_from_where_another_process_has_ended(tmp_path):
    early = make(tmp_path)
    make(tmp_path).search(verbose=0)
    early.search(verbose=0)
    assert early.runs == 0
    assert len(early.oracle.trials) == 3


def test_a_chief_takes_results_of_trials_that_it_handed_out(tmp_path, part):
    part("chief")
    oracle = make(tmp_path).oracle
    chief.know_workers(["worker0", "worker1"])
    with pytest.raises(ValueError, match=r"workers worker0, worker1. Received: 'stranger'"):
        oracle.create_trial("stranger")
    trial = oracle.create_trial("worker0")
    assert chief.unfinished_trials() == {"worker0": trial.trial_id}
    for trial_id in ("1", "7"):
        with pytest.raises(ValueError, match="that a worker was handed"):
            oracle.update_trial(trial_id, {"score": -1.0})
    oracle.update_trial(trial.trial_id, {"score": 1.0})
    # Its worker was killed; keras-tuner would keep what it had reported.
    trial = oracle.create_trial("worker0")
    assert not trial.metrics.exists("score")
    oracle.update_trial(trial.trial_id, {"score": 2.0})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    assert chief.unfinished_trials() == {}
    assert oracle.trials[trial.trial_id].score == 2.0
    with pytest.raises(ValueError, match="that a worker was handed"):
        oracle.end_trial(trial)


def test_a_trial_that_failed_before_a_kill_is_run_once_more(tmp_path):
    def begin():
        oracle = keras_tuner.oracles.RandomSearchOracle(
            OBJECTIVE, max_trials=3, seed=1, max_retries_per_trial=1
        )
        hypermodel = tuners.TabularHyperModel(3, space={"units": [2, 4, 8]})
        return keras_tuner.Tuner(oracle, hypermodel, directory=tmp_path)

    tuner = begin()
    tuner.save()
    trial = tuner.oracle.create_trial("tuner0")
    trial.status = "INVALID"
    tuner.oracle.end_trial(trial)  # Killed before the state is saved without it.
    oracle = begin().oracle
    assert oracle.get_state()["retry_queue"] == [trial.trial_id]


class Own(keras_tuner.oracles.RandomSearchOracle):
    """Keeps account of its trials in its own way."""

    def create_trial(self, tuner_id):
        trial = super().create_trial(tuner_id)
        self.start_order = []
        return trial


def stock(directory, **arguments):
    class Stock(keras_tuner.Tuner):
        def run_trial(self, trial, **kwargs):
            return float(trial.trial_id)

    oracle = Own(OBJECTIVE, max_trials=3, seed=1)
    return Stock(oracle, lambda hp: hp.Choice("units", [2, 4, 8]), directory=directory, **arguments)


@pytest.fixture
def no_models(monkeypatch):
    def populate(self):
        self.hypermodel.build(self.oracle.hyperparameters)

    monkeypatch.setattr(keras_tuner.Tuner, "_populate_initial_space", populate)


def test_stock_searches_beside_ours_stay_as_they_are(tmp_path, no_models):
    """Also in the folder that a search of ours has left."""
    make(tmp_path).search(verbose=0)
    tuner = stock(tmp_path, overwrite=True)
    assert {"search", "save", "reload"} & set(vars(tuner)) == set()
    assert {"create_trial", "update_trial", "end_trial"} & set(vars(tuner.oracle)) == set()
    tuner.search(verbose=0)
    folder = tmp_path / "untitled_project"
    assert not list(folder.glob(".*"))
    files = {"oracle.json": folder / "oracle.json", "trial.json": folder / "trial_0/trial.json"}
    for name, path in files.items():
        path.rename(tmp_path / name)
        path.symlink_to(tmp_path / name)
        os.chmod(tmp_path / name, 0o600)
    inodes = {name: os.stat(path).st_ino for name, path in files.items()}
    again = stock(tmp_path)
    again.save()
    again.oracle.trials["0"].save(str(files["trial.json"]))
    for name, path in files.items():
        assert path.is_symlink()
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert os.stat(path).st_ino == inodes[name], "keras-tuner writes in place"


def test_files_of_ours_keep_their_modes_and_links(tmp_path, no_models):
    make(tmp_path).search(verbose=0)
    oracle, far = tmp_path / "untitled_project/oracle.json", tmp_path / "far.json"
    oracle.rename(far)
    far.chmod(0o600)
    oracle.symlink_to(far)
    before = far.read_text()
    make(tmp_path, 4).search(verbose=0)
    assert oracle.is_symlink()
    assert stat.S_IMODE(far.stat().st_mode) == 0o600
    assert far.read_text() != before


def test_an_oracle_of_ones_own_loses_no_trial(tmp_path):
    def begin():
        hypermodel = tuners.TabularHyperModel(3, space={"units": [2, 4, 8]})
        return keras_tuner.Tuner(Own(OBJECTIVE, max_trials=3), hypermodel, directory=tmp_path)

    oracle = begin().oracle
    for worker in ("tuner0", "tuner1"):
        oracle.create_trial(worker)
    Path(tmp_path, "untitled_project/tuner0.json").write_text("{}")
    oracle = begin().oracle
    assert sorted(oracle.trials) == ["0", "1"]
    assert sorted(oracle.get_state()["retry_queue"]) == ["0", "1"]


def test_the_score_of_a_killed_run_is_not_that_of_the_next(tmp_path):
    tuner = make(tmp_path)
    tuner.save()
    trial = tuner.oracle.create_trial("tuner0")
    tuner.oracle.update_trial(trial.trial_id, {"score": -5.0})
    again = make(tmp_path)
    again.search(verbose=0)
    scores = [trial.score for trial in again.oracle.trials.values()]
    np.testing.assert_array_equal(sorted(scores), [0.0, 1.0, 2.0])
