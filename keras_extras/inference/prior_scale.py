"""The scale of a prior, by the marginal likelihood or by held-out rows."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_extras.inference.data_batches import data_batches, row_weights
from keras_extras.inference.linearized_network import LinearizedNetwork
from keras_extras.inference.observations import observations
from keras_extras.inference.weight_function import WeightFunction


def most_likely_scale(log_evidence: Callable[[float], float]) -> float:
    """Returns the scale between 0.001 and 1000 of the greatest evidence.

    Args:
        log_evidence: Function from a scale to the logarithm of the evidence.
    """
    grid = np.linspace(-3.0, 3.0, 121)
    for _ in range(4):
        best = int(np.argmax([log_evidence(10.0**log) for log in grid]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        grid = np.linspace(low, high, 21)
    return float(10.0 ** grid[len(grid) // 2])


def scale_of_least_loss(loss: Callable[[float], float]) -> float:
    """Returns the scale of the least loss, among 0 and values between 0.001 and 10.

    Args:
        loss: Function from a scale to a loss; not a number counts as the worst.
    """
    losses = {}

    def measure(scales):
        losses.update({scale: np.nan_to_num(loss(scale), nan=np.inf) for scale in scales})
        return float(min(losses, key=losses.__getitem__))

    best = measure([0.0, *10.0 ** np.arange(-3.0, 2.0)])
    for factor in (10.0**0.5, 10.0**0.25):
        best = measure([best / factor, best * factor] if best else [])
    return best


def validation_batches(data: Any, function: WeightFunction, batch_size: int) -> list[tuple]:
    """Returns tuples of inputs, targets and weights of held-out rows.

    Args:
        data: A tuple `(x, y)` or `(x, y, sample_weight)`, or a dataset of such batches.
        function: The model.
        batch_size: Integer, rows to compute at once.

    Raises:
        TypeError, ValueError: If there are none, or they do not fit.
    """
    if data is None:
        raise ValueError(
            "`validation_data` must be given with method='gridsearch': a tuple (x, y) of rows that "
            "the network was not trained with. Received: None"
        )
    if isinstance(data, tuple | list) and len(data) not in (2, 3):
        raise ValueError(
            "`validation_data` must be a tuple (x, y) or (x, y, sample_weight). "
            f"Received: {len(data)} values"
        )
    batches: list[tuple] = []
    known: dict[Any, Any] = {}
    for x, y, sample_weight in data_batches(*data if isinstance(data, tuple | list) else (data,)):
        x, y = observations(function, x, y, batch_size, known)
        batches.append((x, y, row_weights(sample_weight, len(y), keras.config.floatx())))
    if not sum(weights.sum() for _, _, weights in batches) > 0.0:
        raise ValueError(
            "The weights of `validation_data` must have a positive sum. Received: only zeros"
        )
    return batches


def negative_log_likelihood(
    network: LinearizedNetwork,
    weights: Sequence[Any],
    offsets: Sequence[Any],
    batches: Sequence[tuple],
    batch_size: int,
) -> float:
    """Returns the weighted mean over rows of the negative log-likelihood, a number.

    Args:
        network: The network.
        weights: Arrays, all of its weights.
        offsets: Arrays of shape `(num_samples, *shape)`, draws of what weights lie off by.
        batches: Tuples of inputs, targets and weights of rows.
        batch_size: Integer, rows to compute at once at most.
    """
    from keras_extras.inference.posterior_predictive import predictive_of

    total = total_weight = 0.0
    for x, y, of_rows in batches:
        prediction = predictive_of(
            network.function, network.parameters(weights, offsets, x, batch_size)
        )
        total -= float(np.sum(of_rows * np.asarray(prediction.log_prob(y)), dtype="float64"))
        total_weight += float(of_rows.sum())
    return total / total_weight
