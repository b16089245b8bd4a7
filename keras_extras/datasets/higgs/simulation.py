"""Simulated events of the Higgs challenge."""

import numpy as np

from keras_extras.datasets.higgs.detector import accept, measure
from keras_extras.datasets.higgs.events import HiggsEvents, rescale_weights
from keras_extras.datasets.higgs.features import (
    FEATURE_NAMES,
    PRIMITIVE_NAMES,
    derived_features,
)
from keras_extras.datasets.higgs.missing_mass import missing_mass
from keras_extras.datasets.higgs.processes import PROCESSES, Process


def simulate_events(num_events: int, rng: np.random.Generator) -> HiggsEvents:
    """Simulates `num_events` accepted events of all processes, in random order."""
    shares = np.cumsum([0.0, *(process.row_share for process in PROCESSES)])
    counts = np.diff(np.round(num_events * shares).astype(int))
    order = rng.permutation(num_events)

    def per_process(values):
        return np.repeat(values, counts)[order]

    labels = per_process([process.is_signal for process in PROCESSES]).astype("int32")
    weights = per_process([process.weight_share for process in PROCESSES]) / per_process(counts)
    primitives = np.concatenate(
        [_accepted_events(rng, process, n) for process, n in zip(PROCESSES, counts, strict=True)]
    )[order]
    mass = missing_mass(primitives)[:, None]
    features = np.concatenate([mass, derived_features(primitives), primitives], axis=1)
    return HiggsEvents(
        features.astype("float32"),
        labels,
        rescale_weights(labels, weights),
        np.arange(num_events, dtype="int64"),
        FEATURE_NAMES,
    )


def _accepted_events(rng, process: Process, num_events: int):
    batches = [np.empty((0, len(PRIMITIVE_NAMES)))]
    while (missing := num_events - sum(map(len, batches))) > 0:
        # One in four to one in ten is accepted.
        collision = process.collide(rng, 5 * missing + 100)
        batches.append(accept(measure(rng, collision))[:missing])
    return np.concatenate(batches)
