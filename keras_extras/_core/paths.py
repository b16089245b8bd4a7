"""Names of variables that no two of them share."""

from collections.abc import Sequence

import keras


def unique_paths(variables: Sequence[keras.Variable]) -> list[str]:
    """Returns the path of each variable, with a number behind it where an earlier one has it.

    Keras allows several variables of one path, as in towers of a functional model whose layers
    share a name.
    """
    paths: dict[str, None] = {}
    for variable in variables:
        path, number = variable.path, 0
        while path in paths:
            number += 1
            path = f"{variable.path}_{number}"
        paths[path] = None
    return list(paths)
