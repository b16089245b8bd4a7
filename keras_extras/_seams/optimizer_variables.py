"""Which variables an optimizer of Keras was built for, the place of each, and which it decays.

Read are `_trainable_variables` and `_get_variable_index` of an optimizer of ours. An optimizer
keeps its state in lists in the order of the variables, and `update_step` is given a variable, under
`tf.distribute` one of TensorFlow, without its place. Read is `_use_weight_decay`, as what
`exclude_from_weight_decay` leaves out cannot be asked for. Known to hold since Keras 3.12. A public
list of these variables, the place as an argument, and a public question would make it unnecessary.
"""

from typing import Any

import keras


def index_of(optimizer: keras.Optimizer, variable: Any) -> int:
    """Returns the place of a variable among those that the optimizer was built for."""
    return optimizer._get_variable_index(variable)


def trained_variables(optimizer: keras.Optimizer) -> list[keras.Variable]:
    """Returns the variables that the optimizer was built for."""
    return optimizer._trainable_variables


def decays(optimizer: keras.Optimizer, variable: keras.Variable) -> bool:
    """Returns whether weight decay of the optimizer, if it has one, acts on a variable."""
    return optimizer._use_weight_decay(variable)
