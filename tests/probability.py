"""TensorFlow Probability of the backend that the tests run on, and what each backend writes so."""

import numpy as np
from keras import ops
from precision import ON_JAX

from keras_extras._core.probability import require_probability
from keras_extras._core.probability import tf as tf

tfp = require_probability()
tfd = tfp.distributions
tfb = tfp.bijectors


def compiled(function, jit_compile=False):
    """A function as a program of the backend."""
    if ON_JAX:
        import jax

        return jax.jit(function)
    return tf.function(function, jit_compile=jit_compile)


def value_and_gradient(function, x):
    """The values of a function, and the gradient of their sum."""
    if ON_JAX:
        import jax

        return function(x), jax.jit(jax.grad(lambda x: function(x).sum()))(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = function(x)
    return values, tape.gradient(values, x)


def jacobians(function, variables):
    """The derivatives of a tensor, a function of values of variables, by each of them."""
    values = [ops.convert_to_tensor(np.asarray(variable)) for variable in variables]
    if ON_JAX:
        import jax

        return jax.jacrev(function)(values)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(values)
        result = function(values)
    return tape.jacobian(result, values, experimental_use_pfor=False)


def seed_of(*numbers):
    """The same seed for TFP of each backend: one number, or a pair for a stateless one."""
    if ON_JAX:
        return ops.convert_to_tensor([*([0] * (2 - len(numbers))), *numbers], "uint32")
    return numbers if len(numbers) > 1 else numbers[0]
