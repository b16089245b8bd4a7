"""Derivatives of functions of tensors, by reverse and by forward mode; they nest.

Keras has no public function for them, so this stands on TensorFlow.
"""

from collections.abc import Callable, Sequence
from typing import Any

from keras_extras._core.backend import require_tensorflow
from keras_extras._core.moments import twice_differentiable_moments


def value_and_gradients(
    function: Callable[[Sequence[Any]], Any], values: Sequence[Any]
) -> tuple[Any, list[Any]]:
    """Returns `function(values)` and its gradient with respect to each value, by reverse mode.

    Args:
        function: From a list of tensors to a scalar, or to a tensor whose sum is differentiated.
        values: List of float tensors.

    Returns:
        The value, and a list of tensors, `None` where the value does not depend on an argument.
    """
    require_tensorflow("Differentiation")
    import tensorflow as tf

    with (
        twice_differentiable_moments(),
        tf.GradientTape(watch_accessed_variables=False) as tape,
    ):
        tape.watch(values)
        value = function(values)
    return value, tape.gradient(value, values) if values else []


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
    require_tensorflow("Differentiation")
    import tensorflow as tf

    with (
        twice_differentiable_moments(),
        tf.autodiff.ForwardAccumulator(list(values), list(vector)) as accumulator,
    ):
        value = function(values)
    zero = tf.UnconnectedGradients.ZERO
    return value, accumulator.jvp(value, unconnected_gradients=zero)


def vector_jacobian_products(
    function: Callable[[Any], Any], value: Any, vectors_of: Callable[[Any], Sequence[Any]]
) -> tuple[Any, list[Any]]:
    """Returns `function(value)` and the gradients of its inner products with several vectors.

    The function is called once, so that random layers draw once for all products.

    Args:
        function: From a tensor to a tensor.
        value: Float tensor.
        vectors_of: From the function's value to a list of tensors of its shape and dtype.

    Returns:
        The function's value, and a list of tensors of the shape of `value`, or of `None` where
        the one does not depend on the other.
    """
    require_tensorflow("Differentiation")
    import tensorflow as tf

    with (
        twice_differentiable_moments(),
        tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape,
    ):
        tape.watch(value)
        output = function(value)
    vectors = vectors_of(output)
    return output, [tape.gradient(output, value, output_gradients=v) for v in vectors]


def jacobian_vector_products(
    function: Callable[[Any], Any], value: Any, vectors: Sequence[Any]
) -> tuple[Any, list[Any]]:
    """Returns `function(value)` and how it changes along each of several vectors.

    The function is called once, and may hold loops: products with the transposed Jacobian are
    linear in what is multiplied, so that their derivative with respect to it is J v.

    Args:
        function: From a tensor to a tensor.
        value: Float tensor.
        vectors: List of tensors of the shape and dtype of `value`.

    Returns:
        The function's value, and a list of tensors of its shape, or of `None` where the one does
        not depend on the other.
    """
    require_tensorflow("Differentiation")
    import tensorflow as tf

    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
        with (
            twice_differentiable_moments(),
            tf.GradientTape(watch_accessed_variables=False) as inner,
        ):
            inner.watch(value)
            output = function(value)
        cotangent = tf.ones_like(output)  # of any value, because the products are linear in it
        outer.watch(cotangent)
        product = inner.gradient(output, value, output_gradients=cotangent)
    if product is None:
        return output, [None] * len(vectors)
    return output, [outer.gradient(product, cotangent, output_gradients=v) for v in vectors]
