"""Residuals: the loss of a batch as a sum of squares of what the weights determine."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_extras._core.differentiation import (
    jacobian_vector_product,
    value_and_gradients,
    vector_jacobian_products,
)
from keras_extras._core.masks import mask_of, with_mask
from keras_extras._core.vectorized_map import vectorized_map
from keras_extras.optimizers.loss_evaluating import evaluated_at

# More outputs a row are not worth a backward pass each.
_MOST_OUTPUTS_BY_ROW = 16


class Curvatures(NamedTuple):
    """The loss around some weights, as a parabola in outputs and weights.

    With outputs z of weights w, the loss is `L(z) + P(w)`, with P its penalties.

    Attributes:
        slope: Vector, the gradient of L.
        curvature: Vector, the diagonal of its Hessian.
        penalty_slope: Vector, the gradient of P, or `None` without penalties.
        penalty_curvature: Vector, the diagonal of its Hessian, or `None`.
    """

    slope: Any
    curvature: Any
    penalty_slope: Any
    penalty_curvature: Any


class Residuals:
    """Residuals as a function of the weights; the loss is half the sum of their squares.

    Args:
        outputs_of: Function from values of the weights to a tensor or a structure of them.
        shaped: Function from a vector of weights to values.
        dtype: String, that of vectors.
    """

    def __init__(self, outputs_of: Callable, shaped: Callable, dtype: str):
        self._outputs_of, self._shaped, self._dtype = outputs_of, shaped, dtype

    def outputs(self, point: Any) -> Any:
        """Returns the vector of all outputs at a vector of weights."""
        return self._flat(self._outputs_of(self._shaped(point)))

    def loss(self, point: Any) -> Any:
        """Returns the loss at a vector of weights."""
        return 0.5 * ops.sum(self.outputs(point) ** 2)

    def curvatures(self, point: Any) -> Curvatures:
        """Returns slopes and curvatures of the loss by outputs and weights."""
        outputs = self.outputs(point)
        return Curvatures(outputs, ops.ones_like(outputs), None, None)

    def are_squares(self, point: Any, curvatures: Curvatures) -> Any:
        """Returns whether the loss is a sum of squares of outputs and weights."""
        return ops.ones((), "bool")

    def jacobian_vector_product(self, point: Any, vector: Any) -> Any:
        """Returns how outputs change along a vector of weights."""
        function = lambda points: self.outputs(points[0])  # noqa: E731
        return jacobian_vector_product(function, [point], [vector])[1]

    def vector_jacobian_product(self, point: Any, vector: Any) -> Any:
        """Returns the gradient of the inner product of outputs and a vector."""
        _, (gradient,) = value_and_gradients(
            lambda points: ops.sum(self.outputs(points[0]) * vector), [point]
        )
        return ops.zeros_like(point) if gradient is None else gradient

    def jacobian_by_columns(self, point: Any) -> Any:
        """Returns the Jacobian of outputs by weights, from a product for each weight."""
        columns = ops.map(
            functools.partial(self.jacobian_vector_product, point),
            ops.eye(point.shape[0], dtype=self._dtype),
        )
        return ops.transpose(columns)

    def jacobian_by_rows(self, point: Any) -> Any:
        """Returns the Jacobian if outputs depend on their row alone, or `None` if that cannot be.

        It takes the time of a gradient for each output of a row.
        """
        return None

    def _flat(self, outputs):
        leaves = keras.tree.flatten(outputs)
        for leaf in leaves:
            if not ops.is_tensor(leaf) or hasattr(leaf, "made_from"):
                raise TypeError(
                    "Least squares need outputs that are tensors. "
                    f"Received: an output of type {type(leaf).__name__}"
                )
        flat = [ops.cast(ops.reshape(leaf, (-1,)), self._dtype) for leaf in leaves]
        return flat[0] if len(flat) == 1 else ops.concatenate(flat)


class ModelResiduals(Residuals):
    """The outputs of a model, of whose loss the residuals are `slope / sqrt(curvature)`.

    Args:
        batch: `BatchLoss` of a batch of `fit`.
        variables: The weights.
        shaped: Function from a vector of weights to values.
        dtype: String, that of vectors.
    """

    def __init__(self, batch: Any, variables: Sequence[keras.Variable], shaped: Any, dtype: str):
        def outputs_of(values, x=None):
            x = batch.x if x is None else x
            return evaluated_at(values, variables, lambda: (0.0, batch.outputs(x)))[1]

        super().__init__(outputs_of, shaped, dtype)
        self._batch, self._variables = batch, variables

    def loss(self, point: Any) -> Any:
        return self._loss(point, None)

    def _loss(self, point, outputs):
        """The loss at a vector of weights, with another vector in the place of its outputs."""

        def loss_fn():
            found = self._batch.outputs(self._batch.x)
            if outputs is not None:
                found = self._replaced(found, outputs)
            return self._batch.loss(found), None

        loss, _ = evaluated_at(self._shaped(point), self._variables, loss_fn)
        return ops.cast(loss, self._dtype)

    def _replaced(self, found, outputs):
        """Outputs of the structure, shapes and masks of those found, from a vector."""
        leaves, first = [], 0
        for leaf in keras.tree.flatten(found):
            size = ops.size(leaf)
            part = ops.reshape(outputs[first : first + size], ops.shape(leaf))
            leaves.append(with_mask(part, mask_of(leaf)))
            first = first + size
        return keras.tree.pack_sequence_as(found, leaves)

    def curvatures(self, point: Any) -> Curvatures:
        outputs = self.outputs(point)
        slope, curvature = _diagonal(self._slope_by_outputs(point), outputs)
        if slope is None:
            slope = curvature = ops.zeros_like(outputs)
        return Curvatures(slope, curvature, *_diagonal(self._slope_by_weights(outputs), point))

    def _slope_by_outputs(self, point):
        return lambda z: value_and_gradients(lambda z: self._loss(point, z[0]), [z])[1][0]

    def _slope_by_weights(self, outputs):
        outputs = ops.stop_gradient(outputs)
        return lambda w: value_and_gradients(lambda w: self._loss(w[0], outputs), [w])[1][0]

    def are_squares(self, point: Any, curvatures: Curvatures) -> Any:
        outputs = self.outputs(point)
        slope, curvature, *of_penalty = curvatures
        result = _is_parabola(self._slope_by_outputs(point), outputs, slope, curvature)
        if of_penalty[0] is not None:
            result &= _is_parabola(self._slope_by_weights(outputs), point, *of_penalty)
        return result

    def jacobian_by_rows(self, point: Any) -> Any:
        inputs = keras.tree.flatten(self._batch.x)
        given = [leaf for leaf in inputs if leaf is not None]
        template = keras.tree.flatten(self._outputs_of(self._shaped(point)))
        sizes = [_row_size(leaf, given[0]) for leaf in template]
        if None in sizes or sum(sizes) > _MOST_OUTPUTS_BY_ROW:
            return None

        def of_row(row):
            values = iter(row)
            filled = [None if leaf is None else next(values)[None] for leaf in inputs]
            x = keras.tree.pack_sequence_as(self._batch.x, filled)

            def outputs_of_row(point):
                return self._flat(self._outputs_of(self._shaped(point), x)), ()

            units = ops.eye(sum(sizes), dtype=self._dtype)
            _, products = vector_jacobian_products(
                outputs_of_row, point, lambda _: [units[i] for i in range(sum(sizes))]
            )
            return ops.stack([ops.zeros_like(point) if p is None else p for p in products])

        try:
            rows = vectorized_map(of_row, [ops.convert_to_tensor(leaf) for leaf in given])
        except Exception:  # Of any kind: what cannot be mapped over rows is differentiated whole.
            return None
        parts, first = [], 0
        for size in sizes:
            part = rows[:, first : first + size]
            parts.append(ops.reshape(part, (-1, point.shape[0])))
            first += size
        return parts[0] if len(parts) == 1 else ops.concatenate(parts)


def _diagonal(slope_of, value):
    """A gradient, and the sums of the rows of the Hessian, which are its diagonal if all else is 0.

    Both are `None` where the function does not depend on the value.
    """
    slope = slope_of(value)
    if slope is None:
        return None, None
    _, (curvature,) = value_and_gradients(lambda values: ops.sum(slope_of(values[0])), [value])
    return slope, ops.zeros_like(value) if curvature is None else curvature


def _is_parabola(slope_of, value, slope, curvature):
    """Whether a function is a sum of squares of entries: its gradient is linear in each alone."""
    is_single = keras.backend.standardize_dtype(value.dtype) == "float32"
    tolerance = 1e-3 if is_single else 1e-8
    steepest, roundest = ops.max(ops.abs(slope)), ops.max(curvature)
    distance = 1.0 + ops.max(ops.abs(value)) + ops.where(roundest > 0, steepest / roundest, 0.0)
    move = distance * wave(value)
    there = slope_of(value + move)
    there = ops.zeros_like(value) if there is None else there
    error = ops.max(ops.abs(there - slope - curvature * move))
    is_bowl = ops.min(curvature) >= 0.0
    is_flat = ops.all((curvature > 0.0) | (ops.abs(slope) <= tolerance * steepest))
    no_slope = ops.logical_or(roundest > 0.0, steepest == 0.0)
    return (error <= tolerance * roundest * distance) & is_bowl & is_flat & no_slope


def wave(vector: Any) -> Any:
    """Returns a vector of the same size whose entries follow no pattern of a model's."""
    places = ops.cast(ops.arange(ops.size(vector), dtype="int32"), vector.dtype)
    return ops.sin(1.0 + places * 2.3999632)  # the golden angle


def _row_size(leaf, of_input):
    """The number of entries in a row of an output, `None` if that is unknown, or has no rows."""
    shape = leaf.shape
    if len(shape) == 0 or None in shape[1:] or shape[0] != of_input.shape[0]:
        return None
    size = 1
    for length in shape[1:]:
        size *= length
    return size
