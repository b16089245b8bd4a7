"""Data: inputs, targets and weights of rows; WeightsAndInputs: derivatives with respect to both."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

_NO_NUMBERS = "OSUMm"  # objects, strings and dates


class Data(NamedTuple):
    """Arrays, or structures of them, with one row for each example; `None` for what is missing."""

    x: Any
    y: Any = None
    sample_weight: Any = None

    def as_tensors(self, dtype: str) -> "Data":
        """Returns the data as tensors, floating-point numbers in `dtype`."""

        def tensor(values):
            if values is None:
                return None
            if not ops.is_tensor(values):
                kind, values = type(values), np.asarray(values)
                if values.dtype.kind in _NO_NUMBERS:
                    raise TypeError(
                        "`x`, `y` and `sample_weight` must be arrays or structures of arrays "
                        f"of numbers. Received: a value of type {kind.__name__}, dtype "
                        f"{values.dtype}"
                    )
            own = keras.backend.standardize_dtype(values.dtype)
            return ops.convert_to_tensor(values, dtype if "float" in own else None)

        return Data(*(keras.tree.map_structure(tensor, part) for part in self))

    def num_rows(self) -> int | None:
        """Returns how many rows all arrays have; `None` where a compiled function cannot know."""
        if not leaves(self.x):
            raise ValueError(
                f"`x` must be an array or a structure of arrays. Received: x={self.x!r}"
            )
        lengths = {
            name: {leaf.shape[0] if len(leaf.shape) else 0 for leaf in leaves(part)}
            for name, part in zip(self._fields, self)
        }
        known = set().union(*lengths.values()) - {None}
        if len(known) > 1 or known == {0}:
            received = {name: sorted(rows) for name, rows in lengths.items() if rows}
            raise ValueError(
                "`x`, `y` and `sample_weight` must have rows, equally many in all of them. "
                f"Received: {received} rows"
            )
        return known.pop() if known else None

    def rows(self, chosen: slice) -> "Data":
        """Returns some of the rows."""
        return keras.tree.map_structure(lambda part: None if part is None else part[chosen], self)


class WeightsAndInputs(NamedTuple):
    """Derivatives with respect to weights and inputs, or directions in both: `wrt="both"`.

    Attributes:
        weights: List, one entry for each of `model.trainable_variables`.
        inputs: As the inputs of the model: a tensor, or a structure of tensors.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import autodiff

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    x, y = np.ones((4, 3)), np.zeros((4, 1))
    gradient = autodiff.gradient(model, x, y, loss="mse", wrt="both")
    gradient.weights[0]  # of shape (3, 1), as the kernel
    gradient.inputs  # of shape (4, 3), as x
    ```
    """

    weights: list[Any]
    inputs: Any


def leaves(structure: Any) -> list[Any]:
    """Returns the arrays in a structure."""
    return [leaf for leaf in keras.tree.flatten(structure) if leaf is not None]
