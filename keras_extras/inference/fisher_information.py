"""The Fisher information of a model's distributions about the parameters they are made of."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_extras._core.differentiation import check_second_derivatives
from keras_extras._core.flat_vectors import num_entries, unit_vector
from keras_extras._core.probability import tfd
from keras_extras._core.vectorized_map import vectorized_map
from keras_extras.autodiff.dense_derivatives import (
    CURVATURE_MODES,
    dense_gradients,
    hessian_product,
)


def fisher_information(
    make_distribution: Callable[[Any], Any], parameters: Any, targets: Any
) -> Any:
    """Returns the Fisher information of each row's distribution about its parameters.

    It is the curvature of the divergence from the distribution as it is. Distributions without a
    closed divergence have the positive part of the curvature of `-log p(y)` in its place.

    Args:
        make_distribution: Function from parameters to a distribution.
        parameters: Tensor of shape `(rows, ...)`.
        targets: Tensor of targets, shaped as draws.

    Returns:
        Tensor of shape `(rows, entries, entries)`.
    """
    if _are_logits(parameters, make_distribution(parameters)):
        p = ops.softmax(parameters)
        return _diagonal(p) - p[:, :, None] * p[:, None, :]
    fixed = make_distribution(ops.stop_gradient(parameters))
    try:
        return _curvature_of(lambda t: tfd.kl_divergence(fixed, make_distribution(t)), parameters)
    except NotImplementedError:
        root = symmetric_root(
            _curvature_of(lambda t: -make_distribution(t).log_prob(targets), parameters)
        )
        return ops.matmul(root, ops.swapaxes(root, -1, -2))


def fisher_root(make_distribution: Callable[[Any], Any], parameters: Any, targets: Any) -> Any:
    """Returns `R` of shape `(rows, entries, columns)`, with `R R^T` the Fisher information.

    Args:
        make_distribution: As of `fisher_information`.
        parameters: As of `fisher_information`.
        targets: As of `fisher_information`.
    """
    if _are_logits(parameters, make_distribution(parameters)):
        p = ops.softmax(parameters)
        roots = ops.sqrt(p)
        return _diagonal(roots) - p[:, :, None] * roots[:, None, :]
    return symmetric_root(fisher_information(make_distribution, parameters, targets))


def _diagonal(entries):
    return entries[..., None] * ops.eye(entries.shape[-1], dtype=entries.dtype)


def _are_logits(parameters, distribution):
    """Whether the parameters of each row are the logits of one choice among classes."""
    is_of_classes = type(distribution) in (tfd.Categorical, tfd.OneHotCategorical)
    return is_of_classes and distribution.logits is parameters and len(parameters.shape) == 2


def symmetric_root(matrices: Any) -> Any:
    """Returns `R` with `R R^T` the positive part of symmetric matrices, by eigenvalues."""
    values, vectors = ops.linalg.eigh(0.5 * (matrices + ops.swapaxes(matrices, -1, -2)))
    return vectors * ops.sqrt(ops.maximum(values, 0.0))[..., None, :]


def weighted_log_prob(distribution: Any, targets: Any, sample_weight: Any) -> Any:
    """Returns the log-likelihood of all rows together, each counted by its weight.

    Args:
        distribution: The distribution, with rows on its first axis.
        targets: Tensor of targets, shaped as draws.
        sample_weight: Tensor of shape `(rows,)`.
    """
    log_prob = distribution.log_prob(targets)
    by_row = ops.sum(ops.reshape(log_prob, (ops.shape(sample_weight)[0], -1)), axis=1)
    return ops.sum(by_row * ops.cast(sample_weight, by_row.dtype))


def _curvature_of(function, parameters):
    """Second derivatives of a function of each row, of shape `(rows, entries, entries)`."""
    one = parameters[0]
    size = num_entries([one])

    def total(values):
        return ops.sum(function(*values))

    def column(number):
        (unit,) = unit_vector(number, [one])
        vector = [ops.broadcast_to(unit, ops.shape(parameters))]
        (product,) = hessian_product(total, [parameters], vector, CURVATURE_MODES[0])
        return ops.reshape(product, (-1, size))

    check_second_derivatives(lambda values: dense_gradients(total, values), [parameters])
    return ops.transpose(vectorized_map(column, ops.arange(size)), (1, 2, 0))
