"""Derivatives of functions of a list of tensors, each a list of dense tensors."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from keras_extras._core.differentiation import (
    dense,
    jacobian_vector_product,
    value_and_gradients,
)
from keras_extras._core.flat_vectors import flat, num_entries, unit_vector
from keras_extras._core.vectorized_map import vectorized_map

CURVATURE_MODES = ("reverse_over_reverse", "forward_over_reverse")


def dense_gradients(function: Callable, values: Sequence[Any]) -> list[Any]:
    """Returns the gradient of a scalar function, zeros where it does not depend on a value."""
    return zeros_where_none(value_and_gradients(function, values)[1], values)


def zeros_where_none(gradients: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Returns gradients as dense tensors, zeros in the place of None."""
    pairs = zip(dense(gradients), values)
    return [ops.zeros_like(value) if gradient is None else gradient for gradient, value in pairs]


def hessian_product(
    function: Callable, values: Sequence[Any], vector: Sequence[Any], mode: str
) -> list[Any]:
    """Returns the product of the Hessian of a scalar function and a vector.

    Args:
        function: From a list of tensors to a scalar.
        values: List of tensors.
        vector: List of tensors of the same shapes.
        mode: One of `CURVATURE_MODES`.
    """
    if mode == "forward_over_reverse":
        return jacobian_vector_product(
            lambda values: dense_gradients(function, values), values, vector
        )[1]
    return dense_gradients(
        lambda values: inner_product(dense_gradients(function, values), vector), values
    )


def pullback(function: Callable, values: Sequence[Any], vector: Sequence[Any]) -> list[Any]:
    """Returns the gradient of the inner product of `vector` and a function's flattened outputs."""
    return dense_gradients(lambda values: inner_product(function(values), vector), values)


def jacobian_matrix(
    function: Callable, values: Sequence[Any], outputs: Sequence[Any], vectorize: bool = True
) -> Any:
    """Returns the Jacobian of a function, of shape `(entries of outputs, entries of values)`.

    Args:
        function: From a list of tensors to a list of tensors.
        values: List of tensors.
        outputs: List of tensors like those that it returns.
        vectorize: Boolean, whether to compute all rows at once, else one after another: TensorFlow
            cannot vectorize some gradients of loops. Defaults to `True`.
    """

    def row(number):
        return flat(pullback(function, values, unit_vector(number, outputs)))

    return (vectorized_map if vectorize else ops.map)(row, ops.arange(num_entries(outputs)))


def inner_product(one: Sequence[Any], other: Sequence[Any]) -> Any:
    """Returns the sum of the products of the entries of two lists of tensors."""
    return sum(ops.sum(a * ops.cast(b, a.dtype)) for a, b in zip(one, other))
