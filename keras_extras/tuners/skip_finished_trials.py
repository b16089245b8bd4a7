"""skip_finished_trials: a search that goes on repeats nothing."""

import keras_tuner

_FINISHED = ("COMPLETED", "FAILED")


def skip_finished_trials(oracle: keras_tuner.Oracle) -> None:
    """Lets a search that is taken up again leave finished trials alone.

    keras-tuner saves its state before it strikes the trial that has just ended off the list of
    those that run, and repeats that trial when it is started again. Call this between making the
    tuner and `search`; `run_workers` does.

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
    state["retry_queue"] = [
        trial_id
        for trial_id in state["retry_queue"]
        if oracle.trials[trial_id].status not in _FINISHED
    ]
    oracle.set_state(state)
