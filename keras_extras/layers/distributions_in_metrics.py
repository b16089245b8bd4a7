"""Keras' losses and metrics of predictions that are distributions.

Keras reads from the shapes of tensors what a prediction means: a tensor of shape `(n,)`, as of a
distribution of event shape `()`, it takes for one row of `n` classes. Here its losses and metrics
get what they are defined on:

1. Those of classes get the probabilities, where the distribution is one of classes. `"accuracy"`
   and `"crossentropy"`, which leave to Keras which function is meant, mean the one that suits
   the distribution and the targets.
2. Others get the tensor that stands for the distribution, with an axis for the entry of a number.

Metrics and functions of users get the distribution.
"""

import functools
import inspect

import keras
from keras import ops

from keras_extras._core.class_probabilities import (
    entry_logits,
    entry_probabilities,
    is_over_classes,
    is_over_two,
)
from keras_extras._core.distribution_kinds import tensor_of
from keras_extras._core.masks import mask_of
from keras_extras._core.probability import static_shape, tf
from keras_extras._seams.scores import function_of, take_over_scores

_TO_CHOOSE = {"accuracy", "acc", "crossentropy", "ce"}
_OF_LABELS = {
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy",
}
_OF_ONE_HOT = {
    "categorical_accuracy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "kl_divergence",
    "top_k_categorical_accuracy",
}
_OF_ENTRIES = {
    "AUC",
    "BinaryIoU",
    "FBetaScore",
    "Precision",
    "Recall",
    "SensitivitySpecificityBase",
    "_ConfusionMatrixConditionCount",
    "binary_accuracy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
}
_ALONG_LAST_AXIS = {"concordance_correlation", "cosine_similarity", "pearson_correlation"}


def let_metrics_take_distributions() -> None:
    """Lets Keras' losses and metrics take distributions, once."""
    take_over_scores(lambda y_pred: hasattr(y_pred, "tensor_distribution"), _loss, _metric)


def _loss(stock, loss, y_true, y_pred):
    function = _keras_function_of(loss)
    if function is None:
        values = stock(loss, y_true, y_pred)
        if hasattr(y_pred, "check_losses"):
            y_pred.check_losses(values)
        return values
    if loss.name.lower() in _TO_CHOOSE:
        return _chosen(loss.name, y_true, y_pred)
    return stock(loss, *_arguments(loss, function.__name__, y_true, y_pred))


def _metric(stock, metric, y_true, y_pred, sample_weight):
    if not isinstance(metric, keras.metrics.MeanMetricWrapper):
        kinds = [cls.__name__ for cls in type(metric).__mro__ if _is_of_keras(cls)]
        name = next((kind for kind in kinds if kind in _OF_ENTRIES), kinds[0])
        return stock(metric, *_arguments(metric, name, y_true, y_pred), sample_weight)
    function = _keras_function_of(metric)
    if function is None:
        return stock(metric, y_true, y_pred, sample_weight)
    mask = mask_of(y_pred)
    if mask is not None:
        kept = ops.cast(mask, metric.dtype)
        sample_weight = kept if sample_weight is None else _times(sample_weight, kept)
    if metric.name.lower() in _TO_CHOOSE and not _compares_numbers(function, y_pred):
        values = _chosen(metric.name, y_true, y_pred, metric)
        return keras.metrics.Mean.update_state(metric, values, sample_weight)
    return stock(metric, *_arguments(metric, function.__name__, y_true, y_pred), sample_weight)


def _chosen(name, y_true, y_pred, metric=None):
    """The values of `"accuracy"` or `"crossentropy"`."""
    if not is_over_classes(y_pred):
        instead = (
            'a metric of numbers such as "mae", or the metric that you mean as an object'
            if "acc" in name.lower()
            else "`keras_extras.losses.NegativeLogLikelihood()`"
        )
        raise ValueError(
            f"{name!r} needs predictions of classes: a distribution `Bernoulli`, `Categorical` "
            f"or `OneHotCategorical`. Use {instead}. Received: {y_pred.tensor_distribution}"
        )
    function = "accuracy" if "acc" in name.lower() else "crossentropy"
    probabilities = entry_probabilities(y_pred)
    if is_over_two(y_pred):
        arguments = _with_entry_axis(y_true, probabilities, y_pred, name)
        threshold = getattr(metric, "threshold", None)
        options = {} if threshold is None else {"threshold": threshold}
        return getattr(keras.metrics, f"binary_{function}")(*arguments, **options)
    form = "sparse_categorical" if _are_labels(y_true, probabilities, name) else "categorical"
    return getattr(keras.metrics, f"{form}_{function}")(y_true, probabilities)


def _arguments(self, name, y_true, y_pred):
    """Targets and tensor for a loss or metric of Keras."""
    is_mean = _keras_function_of(self) is not None
    is_iou = isinstance(self, keras.metrics.IoU) and name != "BinaryIoU"
    of_classes = is_iou or name in _OF_LABELS | _OF_ONE_HOT | _OF_ENTRIES
    if not of_classes or not is_over_classes(y_pred):
        values = tensor_of(y_pred)
        if of_classes or name in _ALONG_LAST_AXIS:
            return y_true, values
        return _with_entry_axis(y_true, values, y_pred, name, is_mean)
    values = entry_logits(y_pred) if _takes_logits(self) else entry_probabilities(y_pred)
    if is_over_two(y_pred):
        if is_iou or name not in _OF_ENTRIES:
            raise ValueError(
                f"{self.name!r} is of several classes, and the distribution of entries 0 and 1. "
                f'Use "accuracy", "binary_accuracy", "binary_crossentropy" or "AUC". '
                f"Received: {y_pred.tensor_distribution}"
            )
        return _with_entry_axis(y_true, values, y_pred, name, is_mean)
    wants_labels = self.sparse_y_true if is_iou else name in _OF_LABELS
    if _are_labels(y_true, values, self.name) != wants_labels:
        wanted, given = ("labels", "one-hot") if wants_labels else ("one-hot targets", "labels")
        raise ValueError(
            f"{self.name!r} needs {wanted}, and the targets are {given}: "
            f"y_true.shape={_shape(y_true)}. Use the metric or loss for {given} targets, or "
            '"accuracy" or "crossentropy", which take both.'
        )
    if is_iou and self.sparse_y_pred:
        values = ops.argmax(values, axis=-1)
    return y_true, values


def _are_labels(y_true, probabilities, name):
    """Whether targets are labels; `False` if they are one-hot."""
    actual, expected = tf.TensorShape(_shape(y_true)), static_shape(probabilities)
    if actual.rank is None or (actual[-1:] == expected[-1:] and actual.rank == expected.rank):
        return False
    if actual.rank == expected.rank - 1 or (actual[-1:] == [1] and actual.rank == expected.rank):
        return True
    raise ValueError(
        f"{name!r} cannot pair targets with probabilities of classes of shape {expected}: targets "
        f"must be labels of shape {expected[:-1]} or one-hot. "
        f"Received: y_true.shape={tuple(actual)}"
    )


def _with_entry_axis(y_true, values, y_pred, name, is_mean=True):
    """Targets and predicted values, numbers with an axis for themselves as their only entry."""
    y_true = ops.convert_to_tensor(y_true)
    rank = static_shape(values).rank
    of_numbers = y_pred.event_shape.rank == 0 and rank == y_pred.batch_shape.rank
    # With more axes than one Keras' means are over the last, its counts and curves over all.
    of_numbers = of_numbers and (rank < 2 or (is_mean and values.shape[-1] != 1))
    if of_numbers:
        values = values[..., None]
    given, expected = static_shape(y_true), static_shape(values)
    if given.rank == expected.rank - 1 or (of_numbers and expected.rank == 1):
        y_true = y_true[..., None]
        given = static_shape(y_true)
    if given.rank == expected.rank and not given.is_compatible_with(expected):
        raise ValueError(
            f"{name!r} cannot pair targets and predictions of different shapes. "
            f"Received: y_true.shape={y_true.shape}, y_pred.shape={y_pred.shape}"
        )
    return y_true, values


def _keras_function_of(wrapper):
    """The function that a loss or metric averages, if it is one of Keras."""
    function = function_of(wrapper)
    if isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isfunction(function) and _is_of_keras(function) else None


def _takes_logits(score):
    given = function_of(score)
    options = given.keywords if isinstance(given, functools.partial) else score.get_config()
    return options.get("from_logits", False)


def _is_of_keras(thing):
    return (thing.__module__ or "").startswith("keras.")


def _compares_numbers(function, y_pred):
    return function.__name__ == "accuracy" and not is_over_classes(y_pred)


def _times(sample_weight, kept):
    weight = ops.cast(ops.convert_to_tensor(sample_weight), kept.dtype)
    while len(weight.shape) < len(kept.shape):
        weight = weight[..., None]
    return weight * kept


def _shape(tensor):
    return tuple(getattr(tensor, "shape", ())) or tuple(ops.convert_to_tensor(tensor).shape)
