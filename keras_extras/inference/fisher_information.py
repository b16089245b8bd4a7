"""The Fisher information of a model's distributions about the parameters they are made of."""

from collections.abc import Callable
from typing import Any

from keras_extras._core.differentiation import check_second_derivatives
from keras_extras._core.flat_vectors import num_entries, unit_vector
from keras_extras._core.probability import tf, tfd
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
        p = tf.nn.softmax(parameters)
        return tf.linalg.diag(p) - p[:, :, None] * p[:, None, :]
    fixed = make_distribution(tf.stop_gradient(parameters))
    try:
        return _curvature_of(lambda t: tfd.kl_divergence(fixed, make_distribution(t)), parameters)
    except NotImplementedError:
        root = symmetric_root(
            _curvature_of(lambda t: -make_distribution(t).log_prob(targets), parameters)
        )
        return tf.matmul(root, root, transpose_b=True)


def fisher_root(make_distribution: Callable[[Any], Any], parameters: Any, targets: Any) -> Any:
    """Returns `R` of shape `(rows, entries, columns)`, with `R R^T` the Fisher information.

    Args:
        make_distribution: As of `fisher_information`.
        parameters: As of `fisher_information`.
        targets: As of `fisher_information`.
    """
    if _are_logits(parameters, make_distribution(parameters)):
        p = tf.nn.softmax(parameters)
        roots = tf.sqrt(p)
        return tf.linalg.diag(roots) - p[:, :, None] * roots[:, None, :]
    return symmetric_root(fisher_information(make_distribution, parameters, targets))


def _are_logits(parameters, distribution):
    """Whether the parameters of each row are the logits of one choice among classes."""
    is_of_classes = type(distribution) in (tfd.Categorical, tfd.OneHotCategorical)
    return is_of_classes and distribution.logits is parameters and parameters.shape.rank == 2


def symmetric_root(matrices: Any) -> Any:
    """Returns `R` with `R R^T` the positive part of symmetric matrices, by eigenvalues."""
    values, vectors = tf.linalg.eigh(0.5 * (matrices + tf.linalg.matrix_transpose(matrices)))
    return vectors * tf.sqrt(tf.maximum(values, 0.0))[..., None, :]


def weighted_log_prob(distribution: Any, targets: Any, sample_weight: Any) -> Any:
    """Returns the log-likelihood of all rows together, each counted by its weight.

    Args:
        distribution: The distribution, with rows on its first axis.
        targets: Tensor of targets, shaped as draws.
        sample_weight: Tensor of shape `(rows,)`.
    """
    log_prob = distribution.log_prob(targets)
    by_row = tf.reduce_sum(tf.reshape(log_prob, (tf.shape(sample_weight)[0], -1)), axis=1)
    return tf.reduce_sum(by_row * tf.cast(sample_weight, by_row.dtype))


def _curvature_of(function, parameters):
    """Second derivatives of a function of each row, of shape `(rows, entries, entries)`."""
    one = parameters[0]
    size = num_entries([one])

    def total(values):
        return tf.reduce_sum(function(*values))

    def column(number):
        (unit,) = unit_vector(number, [one])
        vector = [tf.broadcast_to(unit, tf.shape(parameters))]
        (product,) = hessian_product(total, [parameters], vector, CURVATURE_MODES[0])
        return tf.reshape(product, (-1, size))

    check_second_derivatives(lambda values: dense_gradients(total, values), [parameters])
    return tf.transpose(vectorized_map(column, tf.range(size)), (1, 2, 0))
