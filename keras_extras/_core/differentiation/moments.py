"""Mean and variance whose second derivatives are right."""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def twice_differentiable_moments() -> Iterator[None]:
    """Within it, Keras' normalisation layers on TensorFlow have the right second derivatives.

    They take mean and variance from `tf.nn.moments`, which stops the gradient of the mean inside
    the variance. That changes no first derivative, because it is zero there, but every second one.
    """
    import tensorflow as tf

    def moments(x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: Any = None):
        x = tf.convert_to_tensor(x)
        wide = tf.cast(x, tf.float32) if x.dtype == tf.float16 else x
        mean = tf.reduce_mean(wide, axes, keepdims=True)
        variance = tf.reduce_mean(tf.square(wide - mean), axes, keepdims=keepdims)
        mean = mean if keepdims else tf.reshape(mean, tf.shape(variance))
        return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)

    original, tf.nn.moments = tf.nn.moments, moments
    try:
        yield
    finally:
        tf.nn.moments = original
