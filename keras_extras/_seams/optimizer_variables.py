"""Which variables an optimizer of Keras was built for, and the place of each among them.

Read are `_trainable_variables` and `_get_variable_index` of an optimizer of ours. An optimizer
keeps its state in lists in the order of the variables, and `update_step` is given a variable, under
`tf.distribute` one of TensorFlow, without its place. Known to hold since Keras 3.12. A public list
of these variables, and the place as an argument, would make it unnecessary.
"""

from typing import Any

import keras


def index_of(optimizer: keras.Optimizer, variable: Any) -> int:
    """Returns the place of a variable among those that the optimizer was built for."""
    return optimizer._get_variable_index(variable)


def trained_variables(optimizer: keras.Optimizer) -> list[keras.Variable]:
    """Returns the variables that the optimizer was built for."""
    return optimizer._trainable_variables
