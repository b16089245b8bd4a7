"""A chief that takes from its workers only results of trials that it has handed out.

keras-tuner's chief takes results from whoever connects to its port. The public methods of its
oracle, which it calls for each request, are replaced on the one object.
"""

from collections.abc import Collection
from typing import Any

import keras_tuner

from keras_extras._seams.wrapped_methods import wrap_on_object

# From workers to the trials that they are at.
_handed: dict[str, str] = {}
_names: set[str] = set()


def know_workers(names: Collection[str]) -> None:
    """Lets the chief of this process serve these workers only."""
    _names.update(names)


def unfinished_trials() -> dict[str, str]:
    """From workers to the trials that they were handed and have not ended."""
    return dict(_handed)


def guard_oracle(oracle: keras_tuner.Oracle) -> None:
    """Lets an oracle refuse unknown workers, and results of trials that nobody was handed."""
    for name, guarded in (
        ("create_trial", _handing_out),
        ("update_trial", _updating),
        ("end_trial", _ending),
    ):
        wrap_on_object(oracle, name, guarded)


def _handing_out(create):
    def create_trial(tuner_id: str) -> Any:
        if _names and tuner_id not in _names:
            raise ValueError(
                f"This search has the workers {', '.join(sorted(_names))}. Received: {tuner_id!r}"
            )
        trial = create(tuner_id)
        if trial.status == "RUNNING":
            _handed[tuner_id] = trial.trial_id
            if _names:
                # A run that was killed may have left some, which keras-tuner would keep.
                trial.metrics = type(trial.metrics)()
        return trial

    return create_trial


def _updating(update):
    def update_trial(trial_id: str, *args: Any, **kwargs: Any) -> Any:
        _check_handed(trial_id)
        return update(trial_id, *args, **kwargs)

    return update_trial


def _ending(end):
    def end_trial(trial: Any, *args: Any, **kwargs: Any) -> Any:
        trial_id = getattr(trial, "trial_id", trial)
        _check_handed(trial_id)
        result = end(trial, *args, **kwargs)
        for worker in [name for name, handed in _handed.items() if handed == trial_id]:
            del _handed[worker]
        return result

    return end_trial


def _check_handed(trial_id):
    if trial_id not in _handed.values():
        raise ValueError(
            f"Results must be of a trial that a worker was handed. Received: trial {trial_id!r}"
        )
