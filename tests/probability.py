"""TensorFlow Probability of the backend that the tests run on."""

import keras

from keras_extras._core.probability import require_probability
from keras_extras._core.probability import tf as tf

tfp = require_probability()
tfd = tfp.distributions
tfb = tfp.bijectors


def seed_of(*numbers):
    """The same seed for TFP of each backend: one number, or a pair for a stateless one."""
    if keras.backend.backend() == "jax":
        return keras.ops.convert_to_tensor([*([0] * (2 - len(numbers))), *numbers], "uint32")
    return numbers if len(numbers) > 1 else numbers[0]


def compiled(function, jit_compile=False):
    """A function as a program of the backend."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return tf.function(function, jit_compile=jit_compile)
