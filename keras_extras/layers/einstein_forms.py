"""The arithmetic of `EinsteinLatent`: functions of latent values and a form's parameters.

Einstein's field equations are R_mn - 1/2 R g_mn + Lambda g_mn = kappa T_mn, with the Ricci tensor
R_mn, the metric g_mn, the scalar curvature R = g^mn R_mn and the cosmological constant Lambda.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops


def field_equation(z: Any, alpha: Any, beta: Any, _epsilon: float) -> Any:
    """-1/2 alpha z + beta z."""
    return (beta - 0.5 * alpha) * z


def linear(z: Any, alpha: Any, beta: Any, _epsilon: float) -> Any:
    """alpha (z + beta)."""
    return alpha * (z + beta)


def log(z: Any, alpha: Any, beta: Any, epsilon: float) -> Any:
    """alpha z + log(|z| + beta), the logarithm's argument being at least `epsilon`."""
    return alpha * z + ops.log(ops.maximum(ops.abs(z) + beta, epsilon))


def inverse(z: Any, alpha: Any, beta: Any, epsilon: float) -> Any:
    """alpha / (z + beta), the denominator keeping its sign and a size of at least `epsilon`."""
    denominator = z + beta
    return alpha / ops.where(
        denominator < 0, ops.minimum(denominator, -epsilon), ops.maximum(denominator, epsilon)
    )


SCALAR_FORMS: dict[str, Callable[[Any, Any, Any, float], Any]] = {
    "field_equation": field_equation,
    "linear": linear,
    "log": log,
    "inverse": inverse,
}


def field_equations(z: Any, metric: Any, inverse_weights: Any, cosmological_constant: Any) -> Any:
    """The left side of Einstein's field equations, component by component.

    Args:
        z: The distinct components of R_mn, shape `(..., units)`.
        metric: The same components of g_mn, shape `(units,)`.
        inverse_weights: What turns z into the scalar curvature: s = sum_i z_i inverse_weights_i.
        cosmological_constant: Lambda, a scalar.

    Returns:
        z - 1/2 s metric + Lambda metric, of the shape of z.
    """
    curvature = ops.sum(z * inverse_weights, axis=-1, keepdims=True)
    return z + (cosmological_constant - 0.5 * curvature) * metric


def diagonal_metric(log_metric: Any) -> tuple[Any, Any]:
    """Components and inverse weights of the diagonal metric exp(`log_metric`)."""
    return ops.exp(log_metric), ops.exp(-log_metric)


def tensor_metric(factor: Any) -> tuple[Any, Any]:
    """Components and inverse weights of the metric g = L L^T.

    Args:
        factor: The lower triangle of L row by row, shape `(n (n + 1) / 2,)`, with the logarithm of
            L's diagonal in the diagonal's place. Zeros give the identity.

    Returns:
        The lower triangle of g, and that of its inverse with what is off the diagonal doubled,
        because a symmetric R holds each of these components twice.
    """
    n = tensor_size(factor.shape[-1])
    rows, columns = np.tril_indices(n)
    on_diagonal = rows == columns
    in_matrix = (rows * n + columns).astype("int32")
    in_triangle = np.zeros((n, n), "int32")
    in_triangle[rows, columns] = range(len(rows))

    def distinct(matrix):
        return ops.take(ops.reshape(matrix, (-1,)), in_matrix, axis=0)

    entries = ops.where(on_diagonal, ops.exp(factor), factor)
    lower = ops.tril(ops.take(entries, in_triangle, axis=0))
    lower_inverse = ops.solve_triangular(lower, ops.eye(n, dtype=factor.dtype), lower=True)
    multiplicity = ops.convert_to_tensor(np.where(on_diagonal, 1.0, 2.0), factor.dtype)
    return (
        distinct(lower @ ops.transpose(lower)),
        distinct(ops.transpose(lower_inverse) @ lower_inverse) * multiplicity,
    )


class MetricForm(NamedTuple):
    """A kind of metric: the weight that holds it, and how to read the metric from it."""

    weight: str
    metric: Callable[[Any], tuple[Any, Any]]


METRIC_FORMS = {
    "diagonal": MetricForm("log_metric", diagonal_metric),
    "tensor": MetricForm("metric_factor", tensor_metric),
}


def tensor_size(units: int) -> int:
    """The n of a symmetric n x n tensor with `units` distinct components.

    Raises:
        ValueError: If no n has n (n + 1) / 2 = `units`.
    """
    n = (math.isqrt(8 * units + 1) - 1) // 2
    below, above = n * (n + 1) // 2, (n + 1) * (n + 2) // 2
    if units != below:
        raise ValueError(
            "With form='tensor', `units` must be n (n + 1) / 2, the number of distinct components "
            f"of a symmetric n x n tensor. The nearest possible sizes are {below} (n = {n}) and "
            f"{above} (n = {n + 1}). Received: units={units}"
        )
    return n
