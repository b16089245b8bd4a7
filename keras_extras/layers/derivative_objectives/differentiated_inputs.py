"""DifferentiatedInputs: what a network is differentiated by, one or all of its inputs."""

import math
from typing import Any

import keras
from keras import ops

from keras_extras._core.inputs import input_place
from keras_extras._core.masks import mask_of, with_mask


class DifferentiatedInputs:
    """Inputs of a network as one tensor, from which they can be made again.

    Args:
        inputs: Tensor or structure of tensors.
        wrt: Name or position of one of them; `None` for all that are floats.
        layer: The network.
        owner: String, what asks, the start of messages.

    Attributes:
        value: Tensor, of one input itself, of several a row of all their entries.
    """

    def __init__(self, inputs: Any, wrt: str | int | None, layer: Any, owner: str):
        self._inputs = inputs
        self._leaves = keras.tree.flatten(inputs)
        if not self._leaves or not all(hasattr(leaf, "dtype") for leaf in self._leaves):
            raise TypeError(
                f"{owner} needs a network of tensors. Received: inputs of type "
                f"{type(inputs).__name__}"
            )
        dtypes = [keras.backend.standardize_dtype(leaf.dtype) for leaf in self._leaves]
        floats = [n for n, dtype in enumerate(dtypes) if keras.backend.is_float_dtype(dtype)]
        places = floats if wrt is None else [input_place(wrt, inputs, layer)]
        if not places or not set(places) <= set(floats):
            raise TypeError(
                f"{owner} needs inputs of floats to differentiate with respect to, such as the "
                f"output of an Embedding. Received: inputs of dtype {', '.join(dtypes)}"
            )
        self._places = places
        self._parts = [self._leaves[place] for place in places]
        self._masks = [mask_of(part) for part in self._parts]
        self.value = self._parts[0] if len(places) == 1 else self._joined()

    def _joined(self):
        dtype = keras.backend.result_type(*(part.dtype for part in self._parts))
        self._shapes = [tuple(part.shape[1:]) for part in self._parts]
        if None in [size for shape in self._shapes for size in shape]:
            raise ValueError(
                "Several inputs are differentiated together where all their sizes but that of the "
                f"batch are known; else choose one by `wrt`. Received: shapes {self._shapes}"
            )
        rows = [
            ops.reshape(ops.cast(part, dtype), (-1, math.prod(shape)))
            for part, shape in zip(self._parts, self._shapes)
        ]
        return ops.concatenate(rows, axis=1)

    def inputs_of(self, value: Any) -> Any:
        """Returns the inputs with another value of what is differentiated."""
        parts = [value] if len(self._parts) == 1 else self._split(value)
        leaves = list(self._leaves)
        for place, part, mask in zip(self._places, parts, self._masks):
            leaves[place] = with_mask(part, mask)
        return keras.tree.pack_sequence_as(self._inputs, leaves)

    def _split(self, value):
        first, parts = 0, []
        for part, shape in zip(self._parts, self._shapes):
            size = math.prod(shape)
            rows = ops.reshape(value[:, first : first + size], (-1, *shape))
            parts.append(ops.cast(rows, part.dtype))
            first += size
        return parts
