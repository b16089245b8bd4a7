"""Searches that processes of their own can import."""

import os
import signal
from pathlib import Path

import keras_tuner


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
