"""Damped normal equations, `(J' H J + P + damping) step = -gradient`, dense and by products."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_extras._core.stateless import choose

_MAX_PRODUCTS = 200


class DenseEquations:
    """The equations with a Jacobian at hand.

    Args:
        jacobian: Matrix, of outputs by weights.
        curvatures: `Curvatures` of the loss.
    """

    def __init__(self, jacobian: Any, curvatures: Any):
        root = ops.sqrt(ops.maximum(curvatures.curvature, 0.0))
        is_curved = root > 0.0
        self._residuals = ops.where(
            is_curved, curvatures.slope / ops.where(is_curved, root, 1.0), 0.0
        )
        self._jacobian = root[:, None] * jacobian
        size = jacobian.shape[1]
        zeros = ops.zeros((size,), jacobian.dtype)
        has_penalty = curvatures.penalty_slope is not None
        self._penalty_slope = curvatures.penalty_slope if has_penalty else zeros
        self._penalty = curvatures.penalty_curvature if has_penalty else zeros
        self.diagonal = ops.sum(self._jacobian**2, axis=0) + self._penalty
        rows = self._jacobian.shape[0]
        count = ops.shape(self._jacobian)[0] if rows is None else rows
        self._is_wide = count < size
        self._products = self._choose(
            lambda: ops.matmul(ops.transpose(self._jacobian), self._jacobian),
            lambda: ops.zeros((size, size), jacobian.dtype),
        )

    def _choose(self, tall, wide):
        if isinstance(self._is_wide, bool):
            return wide() if self._is_wide else tall()
        return choose(self._is_wide, wide, tall)

    def product(self, vector: Any) -> Any:
        """Returns the product of the undamped matrix and a vector."""
        moved = ops.matmul(self._jacobian, vector[:, None])
        return ops.matmul(ops.transpose(self._jacobian), moved)[:, 0] + self._penalty * vector

    def solve(self, damping: Any, gradient: Any) -> Any:
        """Returns the step for a vector of dampings."""
        return self._choose(
            lambda: self._solve_weights(damping, gradient), lambda: self._solve_outputs(damping)
        )

    def _solve_weights(self, damping, gradient):
        """By an equation for each weight, scaled to a diagonal of ones."""
        squared = self.diagonal + damping
        is_empty = squared <= 0.0
        root = ops.where(is_empty, 1.0, ops.sqrt(squared))
        own = (self._penalty + damping) / root**2 + ops.cast(is_empty, root.dtype)
        matrix = self._products / root[:, None] / root[None, :] + ops.diag(own)
        return -_solution(matrix, gradient / root) / root

    def _solve_outputs(self, damping):
        """By an equation for each output, where these are fewer."""
        own = self._penalty + damping
        scaled = self._jacobian / own[None, :]
        matrix = ops.matmul(scaled, ops.transpose(self._jacobian))
        matrix = matrix + ops.eye(ops.shape(matrix)[0], dtype=matrix.dtype)
        rest = self._residuals - ops.matmul(scaled, self._penalty_slope[:, None])[:, 0]
        share = _solution(matrix, rest)
        back = ops.matmul(ops.transpose(self._jacobian), share[:, None])[:, 0]
        return -(back + self._penalty_slope) / own


def _solution(matrix, vector):
    """That of linear equations, not finite where the matrix is not, which raises on TensorFlow."""
    is_finite = ops.isfinite(ops.sum(matrix))
    unit = ops.eye(ops.shape(matrix)[0], dtype=matrix.dtype)
    vector = ops.where(is_finite, vector, float("nan"))
    return ops.solve(ops.where(is_finite, matrix, unit), vector[:, None])[:, 0]


class ProductEquations:
    """The equations by conjugate gradients on products with the matrix.

    Args:
        product: Function from a vector to its product with the undamped matrix.
        tolerance: Float, the norm of the residual over that of the gradient. Defaults to `1e-4`.
    """

    diagonal = None

    def __init__(self, product: Callable[[Any], Any], tolerance: float = 1e-4):
        self.product = product
        self._tolerance = tolerance

    def solve(self, damping: Any, gradient: Any) -> Any:
        """Returns the step for a vector of dampings."""
        enough = self._tolerance * ops.norm(gradient)

        def goes_on(count, step, residual, direction):
            return (count < _MAX_PRODUCTS) & (ops.norm(residual) > enough)

        def improve(count, step, residual, direction):
            image = self.product(direction) + damping * direction
            squared = ops.sum(residual**2)
            length = squared / ops.sum(direction * image)
            new = residual - length * image
            return (
                count + 1,
                step + length * direction,
                new,
                new + ops.sum(new**2) / squared * direction,
            )

        start = ops.zeros((), "int32"), ops.zeros_like(gradient), -gradient, -gradient
        return ops.while_loop(goes_on, improve, start)[1]
