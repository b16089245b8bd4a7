"""skip_finished_trials: a resumed search repeats no trial and leaves none out."""

import json

import keras_tuner

from keras_extras._seams.tuner_state import set_grid

_FINISHED = ("COMPLETED", "FAILED")


def skip_finished_trials(oracle: keras_tuner.Oracle) -> None:
    """Lets a resumed search leave finished trials alone, and go on with the others.

    keras-tuner saves its state before it removes the trial that has just ended from the list of
    running trials, and repeats that trial when it is started again. It also does not save which
    trials of a `GridSearch` have successors, and ends such a search. Call this between constructing
    the tuner and `search`; `run_workers` does, and so do the hypermodels of `keras_extras`.

    Oracles that keep account of their trials in another way stay as they are.

    Args:
        oracle: The oracle of a tuner, as in `tuner.oracle`.

    Example:

    ```python
    import keras_extras
    import keras_tuner

    tuner = keras_tuner.RandomSearch(
        keras_extras.tuners.TabularHyperModel(30), "val_loss", directory="outputs/table"
    )
    keras_extras.tuners.skip_finished_trials(tuner.oracle)
    ```
    """
    state = oracle.get_state()
    if not isinstance(state, dict) or not {"retry_queue", "start_order", "end_order"} <= set(state):
        return
    queue, started, ended = state["retry_queue"], state["start_order"], state["end_order"]
    if not set(queue) <= set(oracle.trials):
        return
    _forget_trial_not_begun(oracle, {*queue, *started, *ended})
    status = {trial_id: trial.status for trial_id, trial in oracle.trials.items()}
    finished = [trial_id for trial_id in started if status.get(trial_id) in _FINISHED]
    # A trial that failed and was sent for another run may be listed twice.
    waiting = [trial_id for trial_id in dict.fromkeys(queue) if status[trial_id] not in _FINISHED]
    for trial_id in waiting:
        # Those of the run that was killed; keras-tuner would keep them.
        oracle.trials[trial_id].metrics = type(oracle.trials[trial_id].metrics)()
    repaired = {
        "retry_queue": waiting,
        "end_order": [*ended, *(trial_id for trial_id in finished if trial_id not in ended)],
    }
    if any(state[name] != value for name, value in repaired.items()):
        # As it is read from the disk, where all numbers that are keys are strings.
        oracle.set_state(json.loads(json.dumps({**state, **repaired})))
    if isinstance(oracle, keras_tuner.oracles.GridSearchOracle):
        _restore_grid(oracle)


def _forget_trial_not_begun(oracle, listed):
    """Forgets a trial that was saved before the state that lists it; there is at most one."""
    others = set(oracle.trials) - listed
    for trial_id in others if len(others) == 1 else ():
        trial = oracle.trials[trial_id]
        if trial.status == "RUNNING" and not trial.metrics.metrics:
            del oracle.trials[trial_id]


def _restore_grid(oracle):
    """Puts the trials in the order of the grid; each may have a successor that was not tried."""
    # Defaults come first.
    orders = [
        (hp.name, [hp.default, *(value for value in hp.values if value != hp.default)])
        for hp in oracle.get_space().space
    ]

    def place(trial_id):
        values = oracle.trials[trial_id].hyperparameters.values
        return [
            order.index(values[name]) if values.get(name) in order else -1 for name, order in orders
        ]

    set_grid(oracle, sorted(oracle.trials, key=place))
