"""Derivatives of functions of tensors, by reverse and by forward mode; they nest.

Keras has no public function for them, so that each backend has its own module. A value does
not depend on an argument where nothing leads from one to the other but functions without a
derivative, such as `round`, `argmax` and `stop_gradient`; the derivative is `None` there.
"""

from collections.abc import Callable, Sequence
from typing import Any

from keras_extras._core.backend import backend_module


def dense(gradients: Sequence[Any]) -> list[Any]:
    """Returns gradients as tensors, `None` where there is none.

    TensorFlow's gradient with respect to what is gathered from, such as the weights of an
    Embedding, is a list of rows in which one row may stand several times.
    """
    return _backend().dense(gradients)


def value_and_gradients(
    function: Callable[[Sequence[Any]], Any], values: Sequence[Any], has_aux: bool = False
) -> tuple[Any, list[Any]]:
    """Returns `function(values)` and its gradient with respect to each value, by reverse mode.

    Args:
        function: From a list of tensors to a scalar, or to a tensor whose sum is differentiated.
            What else it computes leaves it by its result only.
        values: List of float tensors.
        has_aux: Boolean, whether the function returns a pair of what is differentiated and a
            structure of tensors that is not. Defaults to `False`.

    Returns:
        The value, the whole pair with `has_aux`, and a list of tensors, `None` where the value does
        not depend on an argument.
    """
    return _backend().value_and_gradients(function, values, has_aux)


def jacobian_vector_product(
    function: Callable[[Sequence[Any]], Any], values: Sequence[Any], vector: Sequence[Any]
) -> tuple[Any, Any]:
    """Returns `function(values)` and how it changes along `vector`, by forward mode.

    Args:
        function: From a list of tensors to a tensor or a structure of them.
        values: List of float tensors.
        vector: List of tensors of the same shapes and dtypes.

    Returns:
        The value, and its derivative, of the same structure.
    """
    return _backend().jacobian_vector_product(function, values, vector)


def vector_jacobian_products(
    function: Callable[[Any], Any], value: Any, vectors_of: Callable[[Any], Sequence[Any]]
) -> tuple[Any, list[Any]]:
    """Returns `function(value)` and the gradients of inner products with several vectors.

    The function is called once, so that random layers draw once for all products.

    Args:
        function: From a tensor to a pair of a tensor and a structure of tensors, which is not
            differentiated.
        value: Float tensor.
        vectors_of: From the function's tensor to a list of tensors of its shape and dtype.

    Returns:
        What the function returns, and a list of tensors of the shape of `value`, or of `None` where
        the one does not depend on the other.
    """
    return _backend().vector_jacobian_products(function, value, vectors_of)


def jacobian_vector_products(
    function: Callable[[Any], Any], value: Any, vectors: Sequence[Any]
) -> tuple[Any, list[Any]]:
    """Returns `function(value)` and how it changes along each of several vectors.

    The function is called once, and may hold loops.

    Args:
        function: From a tensor to a pair of a tensor and a structure of tensors, which is not
            differentiated.
        value: Float tensor.
        vectors: List of tensors of the shape and dtype of `value`.

    Returns:
        What the function returns, and a list of tensors of the shape of its tensor, or of `None`
        where the one does not depend on the other.
    """
    return _backend().jacobian_vector_products(function, value, vectors)


def check_second_derivatives(
    gradient: Callable[[Sequence[Any]], Any], values: Sequence[Any]
) -> None:
    """Raises if the backend cannot differentiate an operation that computes a gradient.

    TensorFlow takes some of their derivatives as zero in silence, in forward mode as well.

    Args:
        gradient: Function from a list of tensors to a gradient, a structure of tensors.
        values: List of float tensors.

    Raises:
        ValueError: With the operations and their scopes, which hold the names of layers.
    """
    _backend().check_second_derivatives(gradient, values)


def _backend():
    return backend_module(__name__, "Differentiation")
