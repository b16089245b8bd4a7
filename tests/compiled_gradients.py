"""Gradients of functions of numbers in double precision, compiled."""

import numpy as np
from keras import ops

from keras_extras._core.compiled import compiled
from keras_extras._core.differentiation import value_and_gradients


def tensor(value):
    return ops.convert_to_tensor(np.array(value, "float64"))


def gradients(function, *values):
    """The gradient of `function(*values)`, compiled."""

    def of_values(*values):
        return value_and_gradients(lambda values: function(*values), list(values))[1]

    return compiled(of_values)(*map(tensor, values))
