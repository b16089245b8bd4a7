"""skip_finished_trials: a resumed search repeats no trial and leaves none out."""

import keras_tuner

_FINISHED = ("COMPLETED", "FAILED")


def skip_finished_trials(oracle: keras_tuner.Oracle) -> None:
    """Lets a resumed search leave finished trials alone, and go on with the others.

    keras-tuner saves its state before it removes the trial that has just ended from the list of
    running trials, and repeats that trial when it is started again. It also does not save which
    trials of a `GridSearch` have successors, and ends such a search. Call this between constructing
    the tuner and `search`; `run_workers` does, and so do the hypermodels of `keras_extras`.

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
    if "retry_queue" not in state or "start_order" not in state:
        return  # An oracle with a state of another form, which retries in its own way.
    started = set(state["start_order"])
    # A trial that was saved before the state that lists it has not begun.
    for trial_id in set(oracle.trials) - started:
        del oracle.trials[trial_id]
    state["retry_queue"] = [
        trial_id
        for trial_id in state["retry_queue"]
        if oracle.trials[trial_id].status not in _FINISHED
    ]
    oracle.set_state(state)
    if isinstance(oracle, keras_tuner.oracles.GridSearchOracle):
        _restore_grid(oracle)


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

    oracle._ordered_ids = type(oracle._ordered_ids)()
    for trial_id in sorted(oracle.trials, key=place):
        oracle._ordered_ids.insert(trial_id)
    oracle._populate_next = list(oracle.start_order)
