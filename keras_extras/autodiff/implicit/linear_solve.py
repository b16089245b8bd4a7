"""Linear equations of a matrix that is known by its products with vectors."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras.autodiff.implicit import require

MOST_DENSE = 100
_MOST_PRODUCTS = 2000
_DEFINITE = (
    "The Hessian at the minimum must be positive definite for derivatives of the minimum, which is "
    "else not unique or none. Add a penalty such as `1e-6 * sum(x**2)`, or leave out variables "
    "that the function does not depend on."
)
_REGULAR = (
    "The Jacobian of `x - function(x)` at the fixed point must be regular for derivatives of the "
    "fixed point, which is else not unique."
)


def solve_definite(product: Callable, transposed: Callable, vector: Any) -> Any:
    """Returns the solution for a symmetric matrix; raises unless it is positive definite."""
    if vector.shape[0] <= MOST_DENSE:
        solution, lowest = _by_eigenvalues(dense_matrix(product, vector), vector)
        valid = lowest > _rounding(vector)
        text = "smallest_eigenvalue_over_largest"
    else:
        rounding = epsilon(vector) ** 0.75 * norm(vector)
        solution = conjugate_gradients(product, vector, rounding)
        lowest = _relative_error(product, solution, vector)
        valid = lowest <= 1e3 * epsilon(vector) ** 0.75
        text = "relative_error_of_conjugate_gradients"
    return require(valid, solution, _DEFINITE, **{text: lowest})


def solve_regular(product: Callable, transposed: Callable, vector: Any) -> Any:
    """Returns the solution for a square matrix; raises if it is singular."""
    solution, error, limit = solve_any(product, transposed, vector)
    return require(error <= limit, solution, _REGULAR, relative_error=error, allowed=limit)


def solve_any(product: Callable, transposed: Callable, vector: Any) -> tuple[Any, Any, Any]:
    """Returns the solution for a square matrix, its relative error and the error of a good one."""
    if vector.shape[0] <= MOST_DENSE:
        left, sizes, right = ops.svd(dense_matrix(product, vector), full_matrices=False)
        is_regular = sizes[-1] > _rounding(vector) * sizes[0]
        inverse = ops.where(is_regular, 1.0 / sizes, ops.zeros_like(sizes))
        solution = ops.matmul(ops.matmul(vector, left) * inverse, right)
    else:
        image = transposed(vector)
        rounding = epsilon(vector) ** 0.75 * norm(image)
        solution = conjugate_gradients(lambda v: transposed(product(v)), image, rounding)
    error = _relative_error(product, solution, vector)
    return solution, error, ops.cast(1e3 * epsilon(vector) ** 0.75, error.dtype)


def conjugate_gradients(product: Callable, vector: Any, enough: Any) -> Any:
    """Solves by conjugate gradients (Nocedal and Wright, algorithm 5.2).

    Ends at a residual of norm `enough`, after many products, or where it meets a direction whose
    curvature is not positive, with what it has.

    Args:
        product: Function from a vector to its product with a symmetric matrix.
        vector: Vector, the right side.
        enough: Scalar.
    """
    most = min(10 * vector.shape[0], _MOST_PRODUCTS)

    def goes_on(count, is_done, *_):
        return ops.logical_and(~is_done, count < most)

    def improve(count, is_done, solution, residual, direction):
        image = product(direction)
        curvature = ops.sum(direction * image)
        is_convex = curvature > epsilon(vector) * norm(direction) * norm(image)
        squared = ops.sum(residual**2)
        step = ops.where(is_convex, squared / curvature, ops.zeros_like(curvature))
        new_residual = residual - step * image
        new_squared = ops.sum(new_residual**2)
        return (
            count + 1,
            ops.logical_or(~is_convex, ops.sqrt(new_squared) <= enough),
            solution + step * direction,
            new_residual,
            new_residual + new_squared / squared * direction,
        )

    is_done = norm(vector) <= enough
    start = ops.zeros((), "int32"), is_done, ops.zeros_like(vector), vector, vector
    return ops.while_loop(goes_on, improve, start)[2]


def dense_matrix(product: Callable, vector: Any) -> Any:
    """Returns the matrix, from its products with vectors of the length of `vector`."""
    unit = ops.eye(vector.shape[0], dtype=keras.backend.standardize_dtype(vector.dtype))
    return ops.transpose(ops.map(product, unit))


def eigenvalues_of(matrix: Any) -> tuple[Any, Any, Any]:
    """Returns eigenvalues, eigenvectors, and the lowest eigenvalue over the largest in size."""
    # Solutions are differentiated implicitly; those of equal eigenvalues have no derivative.
    matrix = ops.stop_gradient(matrix)
    # Some solvers fail for what is not finite, before anyone can say whose matrix it is.
    is_finite = ops.all(ops.isfinite(matrix))
    matrix = ops.where(is_finite, matrix, ops.zeros_like(matrix))
    values, axes = ops.eigh(0.5 * (matrix + ops.transpose(matrix)))
    values = ops.where(is_finite, values, ops.full_like(values, float("nan")))
    largest = ops.max(ops.abs(values))
    tiny = ops.cast(np.finfo(keras.backend.standardize_dtype(matrix.dtype)).tiny, matrix.dtype)
    return values, axes, values[0] / ops.maximum(largest, tiny)


def _by_eigenvalues(matrix, vector):
    values, axes, lowest = eigenvalues_of(matrix)
    return ops.matmul(axes, ops.matmul(vector, axes) / values), lowest


def norm(vector: Any) -> Any:
    """Returns the Euclidean norm, in the precision of the vector; `ops.norm` leaves it on JAX."""
    return ops.sqrt(ops.sum(vector**2))


def epsilon(tensor: Any) -> float:
    """Returns the relative distance of neighboring numbers of a tensor's precision."""
    return float(np.finfo(keras.backend.standardize_dtype(tensor.dtype)).eps)


def _rounding(vector):
    return 10.0 * vector.shape[0] * epsilon(vector)


def _relative_error(product, solution, vector):
    size = norm(vector)
    error = norm(product(solution) - vector)
    return error / ops.where(size > 0.0, size, ops.ones_like(size))
