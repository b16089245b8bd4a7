"""Noise of weights: what costs most in a step of a layer with Bayesian weights."""

from typing import Any

import numpy as np

from keras_extras._core.probability import tf


def standard_normal(like: Any, seed: Any) -> Any:
    """Returns standard normal draws of the shape and dtype of a tensor.

    By the method of Box and Muller (1958), which takes 0.6 of the time of TensorFlow's own normal
    numbers. They reach to 5.6 standard deviations in float32. The algorithm is named because
    TensorFlow's choice under XLA is 30 times slower.

    Args:
        like: Tensor.
        seed: Tensor of two integers.
    """
    shape = like.shape if like.shape.is_fully_defined() else tf.shape(like)
    size = like.shape.num_elements() or tf.size(like)
    pairs = (size + 1) // 2
    uniform = tf.random.stateless_uniform((2, pairs), seed, dtype=like.dtype, alg="philox")
    radius = tf.sqrt(-2.0 * tf.math.log(1.0 - uniform[0]))
    angle = (2.0 * np.pi) * uniform[1]
    values = tf.reshape(tf.stack([radius * tf.cos(angle), radius * tf.sin(angle)]), [-1])
    return tf.reshape(values[:size], shape)


def random_signs(values: Any, shape: Any, seed: Any) -> Any:
    """Returns `values` times random signs of a shape that broadcasts to theirs."""
    bits = tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    return tf.where(bits < 0, -values, values)
