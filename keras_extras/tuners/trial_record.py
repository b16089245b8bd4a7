"""TrialRecord: a finished trial of a search."""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras_tuner

from keras_extras.visualization.figures import as_float


class TrialRecord(NamedTuple):
    """A finished trial.

    Attributes:
        trial_id: String.
        score: Float, the value of the objective.
        values: Dict from hyperparameters to their values, without those that did not count.
        metrics: Dict from metrics to their best values.

    Example:

    ```python
    from keras_extras import tuners

    trial = tuners.TrialRecord("00", 0.91, {"units": 64}, {"val_auc": 0.91})
    report = tuners.SearchReport([trial], objective="val_auc", direction="max")
    ```
    """

    trial_id: str
    score: float
    values: Mapping[str, Any]
    metrics: Mapping[str, float]


def completed_trials(oracle: keras_tuner.Oracle) -> list[TrialRecord]:
    """Returns the trials of an oracle that are finished, in the order in which they began."""
    order = {trial_id: place for place, trial_id in enumerate(oracle.start_order)}

    def begun(trial_id):
        return order.get(trial_id, len(order)), len(trial_id), trial_id

    return [
        TrialRecord(
            trial_id,
            as_float(trial.score),
            dict(trial.hyperparameters.values),
            _best_values(trial.metrics),
        )
        for trial_id, trial in sorted(oracle.trials.items(), key=lambda item: begun(item[0]))
        if trial.status == "COMPLETED"
    ]


def _best_values(metrics):
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # Of nothing but NaN.
        return {
            name: as_float(metrics.get_best_value(name))
            for name in metrics.metrics
            if metrics.get_history(name)
        }
