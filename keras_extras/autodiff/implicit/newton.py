"""Newton's method with a line search, for the minimum of a function and for a root."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_extras.autodiff.implicit.linear_solve import (
    MOST_DENSE,
    conjugate_gradients,
    dense_matrix,
    eigenvalues_of,
    epsilon,
    norm,
    solve_any,
)
from keras_extras.optimizers.line_search import strong_wolfe

_MOST_HALVINGS = 20


def newton_minimum(
    value_and_gradient: Callable, product: Callable, point: Any, limit: Any, max_iterations: int
) -> tuple[Any, Any, Any]:
    """Returns a minimum, the largest entry of the gradient there, and the number of steps.

    Steps go on as long as each halves the gradient, also below `limit`: derivatives of the minimum
    are as precise as the minimum.

    Args:
        value_and_gradient: Function from a vector to a scalar and its gradient.
        product: Function from a vector and a second one to the product of the Hessian at the first
            and the second.
        point: Vector.
        limit: Scalar, the largest entry of the gradient that is small enough.
        max_iterations: Integer.
    """

    def improve(count, is_done, point, value, gradient):
        direction = _newton_direction(lambda v: product(point, v), gradient)
        one = ops.ones_like(value)
        # The values that a line search compares are lost in rounding long before the gradient.
        full_value, full_gradient = value_and_gradient(point + direction)
        noise = epsilon(point) ** 0.5 * ops.maximum(ops.abs(value), one)
        halves = norm(full_gradient) < 0.5 * norm(gradient)
        step, new_value, new_gradient = ops.cond(
            ops.logical_and(halves, full_value <= value + noise),
            lambda: (one, full_value, full_gradient),
            lambda: strong_wolfe(
                value_and_gradient, point, direction, value, gradient, one, epsilon(point)
            )[:3],
        )
        old, new = ops.max(ops.abs(gradient)), ops.max(ops.abs(new_gradient))
        is_small = old <= limit
        is_better = step > 0.0
        keeps = ops.logical_and(is_better, ops.logical_or(~is_small, new < old))
        is_done = ops.logical_or(~is_better, ops.logical_and(is_small, new > 0.5 * old))
        return (
            count + 1,
            is_done,
            ops.where(keeps, point + step * direction, point),
            ops.where(keeps, new_value, value),
            ops.where(keeps, new_gradient, gradient),
        )

    value, gradient = value_and_gradient(point)
    start = (
        ops.zeros((), "int32"),
        ops.logical_or(~ops.isfinite(value), ops.all(ops.equal(gradient, 0.0))),
        point,
        value,
        gradient,
    )
    count, _, point, _, gradient = ops.while_loop(
        lambda count, is_done, *_: ops.logical_and(~is_done, count < max_iterations),
        improve,
        start,
    )
    return point, ops.max(ops.abs(gradient)), count


def _newton_direction(product, gradient):
    """Solves H p = -g; negative curvatures count by their size, or end conjugate gradients."""
    if gradient.shape[0] <= MOST_DENSE:
        values, axes, _ = eigenvalues_of(dense_matrix(product, gradient))
        sizes = ops.abs(values)
        sizes = ops.maximum(sizes, epsilon(gradient) ** (2 / 3) * ops.max(sizes))
        direction = -ops.matmul(axes, ops.matmul(gradient, axes) / sizes)
        return ops.where(ops.max(sizes) > 0.0, direction, -gradient)
    size = norm(gradient)
    enough = size * ops.minimum(0.5, ops.sqrt(size))
    direction = conjugate_gradients(product, -gradient, enough)
    # Down the gradient, if the curvature is negative there.
    return ops.where(ops.any(ops.not_equal(direction, 0.0)), direction, -gradient)


def newton_root(
    residual: Callable,
    product: Callable,
    transposed: Callable,
    point: Any,
    tolerance: float,
    max_iterations: int,
) -> tuple[Any, Any, Any]:
    """Returns a root, the largest entry of the residual there, and the number of steps.

    A step is halved until the residual falls. Steps go on as long as each halves the residual.

    Args:
        residual: Function from a vector to a vector of its length.
        product: Function from a vector and a second one to the product of the Jacobian at the first
            and the second.
        transposed: Likewise, with the transposed Jacobian.
        point: Vector.
        tolerance: Float, the largest entry of the residual, relative to that of the root, that is
            small enough.
        max_iterations: Integer.
    """

    def improve(count, is_done, point, error):
        direction, _, _ = solve_any(
            lambda v: product(point, v), lambda v: transposed(point, v), -error
        )
        old = norm(error)

        def halve(number, step, trial, trial_error):
            return (
                number + 1,
                0.5 * step,
                point + step * direction,
                residual(point + step * direction),
            )

        def is_higher(number, step, trial, trial_error):
            return ops.logical_and(number < _MOST_HALVINGS, ~(norm(trial_error) < old))

        _, _, trial, trial_error = ops.while_loop(
            is_higher, halve, (ops.zeros((), "int32"), ops.ones_like(old), point, error)
        )
        is_better = norm(trial_error) < old
        is_small = ops.max(ops.abs(error)) <= tolerance * _scale(point)
        ends = ops.logical_and(is_small, norm(trial_error) > 0.5 * old)
        return (
            count + 1,
            ops.logical_or(~is_better, ends),
            ops.where(is_better, trial, point),
            ops.where(is_better, trial_error, error),
        )

    error = residual(point)
    is_done = ops.logical_or(~ops.all(ops.isfinite(error)), ops.all(ops.equal(error, 0.0)))
    count, _, point, error = ops.while_loop(
        lambda count, is_done, *_: ops.logical_and(~is_done, count < max_iterations),
        improve,
        (ops.zeros((), "int32"), is_done, point, error),
    )
    return point, ops.max(ops.abs(error)), count


def _scale(point):
    return ops.maximum(ops.max(ops.abs(point)), ops.ones_like(point[0]))
