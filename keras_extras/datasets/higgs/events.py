"""Events as arrays, the weights of their classes, and their split into train and test."""

from typing import Any, NamedTuple

import numpy as np

from keras_extras._core.checks import check_number

# Sums of the weights over the challenge's whole training set: the expected number of events in
# the data taken in 2012.
SIGNAL_WEIGHT_SUM = 691.99
BACKGROUND_WEIGHT_SUM = 410_999.8


class HiggsEvents(NamedTuple):
    """Events of the Higgs challenge, one row each; it unpacks in the order of its fields.

    Attributes:
        features: Float32 array of shape `(n, 30)`; -999.0 marks undefined values.
        labels: Int32 array of shape `(n,)`: 1 for signal, 0 for background.
        weights: Float32 array of shape `(n,)`: the number of real events that a row stands for.
        event_ids: Int64 array of shape `(n,)`.
        feature_names: The names of the 30 features.

    Example:

    ```python
    from keras_extras.datasets import higgs

    events = higgs.load_events(num_events=100)
    features, labels, weights, event_ids, feature_names = events
    features[labels == 1, feature_names.index("DER_mass_MMC")]
    ```
    """

    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    event_ids: np.ndarray
    feature_names: tuple[str, ...]


def rescale_weights(
    labels: Any,
    weights: Any,
    signal_sum: float = SIGNAL_WEIGHT_SUM,
    background_sum: float = BACKGROUND_WEIGHT_SUM,
) -> np.ndarray:
    """Rescales weights so that each class has a given sum.

    A significance computed on part of a sample is comparable with one computed on the whole only
    after this: the weights of the part sum to less.

    Args:
        labels: Array of shape `(n,)`: 1 for signal, 0 for background.
        weights: Array of shape `(n,)`.
        signal_sum: Sum of the weights of the signal events. Defaults to the challenge's 691.99.
        background_sum: Sum of the weights of the background events. Defaults to the challenge's
            410,999.8.

    Returns:
        Float32 array of shape `(n,)`. A class without events stays without weight.

    Raises:
        ValueError: If a label is neither 0 nor 1, a weight is NaN or infinite, or a class has
            events, but the sum of their weights is not positive.

    Example:

    ```python
    from keras_extras.datasets import higgs

    events = higgs.load_events(num_events=1000)
    half = higgs.rescale_weights(events.labels[::2], events.weights[::2])
    print(half[events.labels[::2] == 1].sum())  # about 691.99
    ```
    """
    labels, weights = np.asarray(labels), np.array(weights, dtype="float64")
    if labels.ndim != 1 or labels.shape != weights.shape:
        raise ValueError(
            "`labels` and `weights` must have one shape, (n,). "
            f"Received: labels.shape={labels.shape}, weights.shape={weights.shape}"
        )
    is_unknown = (labels != 0) & (labels != 1)
    if np.any(is_unknown):
        first = np.argmax(is_unknown)
        raise ValueError(
            "`labels` must be 1 for signal and 0 for background. "
            f"Received: {labels[first]!r} at index {first}"
        )
    is_wrong = ~np.isfinite(weights)
    if np.any(is_wrong):
        first = np.argmax(is_wrong)
        raise ValueError(f"`weights` must be finite. Received: {weights[first]} at index {first}")
    signal_sum = check_number("signal_sum", signal_sum, above=0.0)
    background_sum = check_number("background_sum", background_sum, above=0.0)
    for label, target in ((1, signal_sum), (0, background_sum)):
        of_class = labels == label
        if not of_class.any():
            continue
        total = weights[of_class].sum()
        if not total > 0:
            raise ValueError(
                f"The `weights` of the events with label {label} must have a positive sum. "
                f"Received: sum {total}"
            )
        weights[of_class] *= target / total
    return weights.astype("float32")


def split_events(
    events: HiggsEvents, test_size: float, rng: np.random.Generator
) -> tuple[HiggsEvents, HiggsEvents]:
    """Splits at random, with the same share of each class in both parts, weights rescaled."""
    in_test = np.zeros(len(events.labels), dtype=bool)
    for label, name in ((1, "signal"), (0, "background")):
        rows = rng.permutation(np.flatnonzero(events.labels == label))
        num_test = round(test_size * len(rows))
        if not 0 < num_test < len(rows):
            raise ValueError(
                f"Train and test both need {name} events: load more events or change `test_size`. "
                f"Received: test_size={test_size}, {len(rows)} {name} events in the source"
            )
        in_test[rows[:num_test]] = True
    return _select(events, ~in_test, rng), _select(events, in_test, rng)


def _select(events, chosen, rng):
    rows = rng.permutation(np.flatnonzero(chosen))
    labels = events.labels[rows]
    return HiggsEvents(
        events.features[rows],
        labels,
        rescale_weights(labels, events.weights[rows]),
        events.event_ids[rows],
        events.feature_names,
    )
