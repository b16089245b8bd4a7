"""Derivatives of functions of tensors, by reverse and by forward mode; they nest.

Keras has no public function for them, so this stands on TensorFlow.
"""

from collections.abc import Callable, Sequence
from typing import Any

from keras_extras._core.backend import require_tensorflow


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

    with tf.GradientTape(watch_accessed_variables=False) as tape:
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

    with tf.autodiff.ForwardAccumulator(list(values), list(vector)) as accumulator:
        value = function(values)
    zero = tf.UnconnectedGradients.ZERO
    return value, accumulator.jvp(value, unconnected_gradients=zero)
