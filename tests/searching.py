"""Searches that processes of their own can import."""

import os
import signal
import time
from pathlib import Path

import keras
import keras_tuner

from keras_extras import tuners


class Parabola(keras_tuner.Tuner):
    """Trials that write down that they began, and may kill their process in the middle."""

    def run_trial(self, trial, directory, deadly, verbose):
        x = trial.hyperparameters.Float("x", -1.0, 1.0)
        begun = Path(directory) / f"begun_{trial.trial_id}_{os.getpid()}"
        begun.touch()
        others = list(Path(directory).glob(f"begun_{trial.trial_id}_*"))
        if trial.trial_id == deadly and len(others) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return x**2


def make_tuner(directory, max_trials):
    oracle = keras_tuner.oracles.RandomSearchOracle(
        keras_tuner.Objective("score", "min"), max_trials=max_trials, seed=1
    )
    return Parabola(oracle, directory=directory, project_name="parabola")


def search(directory, max_trials, deadly=None):
    make_tuner(directory, max_trials).search(directory, deadly, verbose=0)


def die(directory):
    print("nothing works here")
    raise SystemExit(3)


# What `chaos_searches.py` kills.

EXPECTED, UNEXPECTED = 3, 4
_SECONDS = 0.3


def _plain(hp):
    hp.Float("learning_rate", 1e-4, 1e-2, sampling="log")
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(hp.Choice("units", [2, 4]))])


class _Slow(keras_tuner.RandomSearch):
    """Trials that take some time and no training; each has a score of its own."""

    def run_trial(self, trial, folder, verbose):
        with open(Path(folder) / "begun.txt", "a") as file:
            print(trial.trial_id, file=file, flush=True)
        time.sleep(_SECONDS)
        return trial.hyperparameters.get("learning_rate")


def make_killed(folder, kind, trials):
    hypermodel = _plain if kind == "plain" else tuners.TabularHyperModel(3)
    objective = keras_tuner.Objective("score", "min")
    return _Slow(hypermodel, objective, trials, seed=1, directory=folder, project_name="search")


def search_killed(folder, kind, trials):
    make_killed(folder, kind, trials).search(folder, verbose=0)


def scores(folder, kind, trials):
    """From trials to how far their score is off, or `None` for one that is not finished."""
    found = make_killed(folder, kind, trials).oracle.trials
    return {
        key: trial.score - trial.hyperparameters.get("learning_rate")
        if trial.status == "COMPLETED"
        else None
        for key, trial in sorted(found.items())
    }


def call(folder, kind, trials):
    """What a process does whose children are killed, or which is killed."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # Ignored under `nohup`.
    with open(Path(folder) / "call.log", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        tuners.run_workers(
            search_killed,
            workers=2,
            args=(folder, kind, trials),
            max_restarts=100,
            timeout=280,
            log_dir=Path(folder) / "logs",
        )
    except RuntimeError as error:
        print(error, flush=True)
        is_expected = "chief ended with code -9" in str(error)
        raise SystemExit(EXPECTED if is_expected else UNEXPECTED) from error
    except BaseException as error:
        print(repr(error), flush=True)
        raise SystemExit(UNEXPECTED) from error
