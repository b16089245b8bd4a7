"""Probabilities of classes, from tensors or from distributions."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.distribution_kinds import entries_of, is_mixture, unwrap
from keras_extras._core.probability import tfd


def class_probabilities(predictions: Any) -> Any:
    """Returns probabilities of shape `(n, classes)`, of two classes also where one is given.

    Args:
        predictions: Tensor of shape `(n,)` or `(n, 1)`, the probabilities of the positive class;
            or of shape `(n, classes)`, those of all; or a `Bernoulli`, `Categorical` or
            `OneHotCategorical` distribution with one entry for each row, also within
            `Independent`, or a mixture with the probabilities of classes as its mean.

    Raises:
        TypeError: If it is another distribution.
        ValueError: If shapes do not fit, such as those of several labels for each row.
    """
    # Not `isinstance`: tensors of probabilities do without TensorFlow Probability.
    if hasattr(predictions, "log_prob"):
        predictions = probabilities_of(predictions)
    predictions = ops.convert_to_tensor(predictions)
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(predictions.dtype)):
        predictions = ops.cast(predictions, keras.config.floatx())  # hard decisions
    rank = len(predictions.shape)
    if rank == 1 or (rank == 2 and predictions.shape[1] == 1):
        positive = ops.reshape(predictions, (-1,))
        return ops.stack([1.0 - positive, positive], axis=-1)
    if rank != 2:
        raise ValueError(
            "Predictions of classes must have shape (n,), (n, 1) or (n, classes). "
            f"Received: shape {tuple(predictions.shape)}"
        )
    return predictions


def probabilities_of(distribution: Any) -> Any:
    """Returns the probabilities of the positive class or of all classes.

    Args:
        distribution: A `tfd.Distribution` over classes, as in `class_probabilities`.

    Raises:
        TypeError: If it is another distribution.
    """
    distribution = unwrap(distribution)
    if hasattr(distribution, "class_probabilities"):  # a posterior predictive
        probabilities = distribution.class_probabilities()
        if len(probabilities.shape) > 2:
            raise ValueError(
                "Predictions of classes must be one for each row. "
                f"Received: probabilities of shape {tuple(probabilities.shape)}"
            )
        return probabilities
    entries = entries_of(distribution)
    if is_mixture(entries) and isinstance(entries.components_distribution, tfd.OneHotCategorical):
        return entries.mean()
    if not isinstance(entries, tfd.Bernoulli | tfd.Categorical | tfd.OneHotCategorical):
        raise TypeError(
            "Predictions of classes must be probabilities, or a distribution `Bernoulli`, "
            f"`Categorical` or `OneHotCategorical`. Received: {distribution}"
        )
    if entries.batch_shape.rank not in (1, 2) or entries.batch_shape[1:] not in ([], [1]):
        raise ValueError(
            "Predictions of classes must be one for each row, with batch shape (n,) or (n, 1). "
            f"Received: {distribution}"
        )
    probabilities = entries.probs_parameter()
    if isinstance(entries, tfd.Bernoulli):
        return probabilities
    return ops.reshape(probabilities, (-1, probabilities.shape[-1]))


def is_over_classes(distribution: Any) -> bool:
    """Whether each entry is one of several classes, or 0 or 1."""
    return isinstance(
        _family(distribution), tfd.Bernoulli | tfd.Categorical | tfd.OneHotCategorical
    )


def is_over_two(distribution: Any) -> bool:
    """Whether each entry is 0 or 1."""
    return isinstance(_family(distribution), tfd.Bernoulli)


def entry_probabilities(distribution: Any) -> Any:
    """Returns the probability that an entry is 1, or those of its classes along a last axis.

    Args:
        distribution: A distribution with `is_over_classes`, which may be a mixture.
    """
    entries = entries_of(distribution)
    if not is_mixture(entries):
        return entries.probs_parameter()
    components = entry_probabilities(entries.components_distribution)
    weights = entries.mixture_distribution.probs_parameter()
    batch_rank = entries.components_distribution.batch_shape.rank
    within = len(components.shape) - batch_rank
    weights = ops.reshape(weights, (*ops.shape(weights), *[1] * within))
    return ops.sum(weights * components, axis=batch_rank - 1)


def entry_logits(distribution: Any) -> Any:
    """Returns the logits of `entry_probabilities`."""
    entries = entries_of(distribution)
    if not is_mixture(entries):
        return entries.logits_parameter()
    probabilities = entry_probabilities(entries)
    logits = ops.log(probabilities)
    return logits - ops.log1p(-probabilities) if is_over_two(entries) else logits


def _family(distribution):
    entries = entries_of(distribution)
    return _family(entries.components_distribution) if is_mixture(entries) else entries
