"""Lists of tensors as flat vectors of their entries, and back."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


def num_entries(tensors: Sequence[Any]) -> int:
    """Returns how many entries tensors of known shapes have together."""
    return sum(math.prod(tensor.shape) for tensor in tensors)


def unit_vector(number: Any, tensors: Sequence[Any]) -> list[Any]:
    """Returns tensors like `tensors`, which are all zero but for a one.

    Args:
        number: Integer or scalar tensor, the place of the one among the entries of all tensors.
        tensors: List of tensors of known shapes.
    """
    vector, first = [], 0
    for tensor in tensors:
        size = num_entries([tensor])
        # A number out of range gives zeros.
        ones = ops.one_hot(number - first, size, dtype=tensor.dtype)
        vector.append(ops.reshape(ones, tensor.shape))
        first += size
    return vector


def flat(tensors: Sequence[Any]) -> Any:
    """Returns one vector of the entries of all tensors."""
    dtype = keras.backend.result_type(*(tensor.dtype for tensor in tensors))
    return ops.concatenate([ops.cast(ops.reshape(t, (-1,)), dtype) for t in tensors])


def flat_rows(tensors: Sequence[Any]) -> Any:
    """Returns a matrix with the entries of all tensors, keeping their first axis."""
    dtype = keras.backend.result_type(*(tensor.dtype for tensor in tensors))
    rows = [ops.reshape(t, (t.shape[0], math.prod(t.shape[1:]))) for t in tensors]
    return ops.concatenate([ops.cast(part, dtype) for part in rows], axis=1)


def split_entries(vectors: Any, shapes: Sequence[Sequence[int]], axis: int = -1) -> list[Any]:
    """Returns the pieces of flat vectors that belong to tensors of some shapes, in these shapes.

    Args:
        vectors: Tensor or NumPy array, with an axis of at least all entries.
        shapes: The shapes, which take the place of that axis.
        axis: Integer, the axis. Defaults to `-1`.
    """
    reshape: Any = ops.reshape if ops.is_tensor(vectors) else np.reshape
    sizes = [-1 if size is None else size for size in vectors.shape]
    axis %= len(sizes)
    parts, first = [], 0
    for shape in shapes:
        end = first + math.prod(shape)
        part = vectors[(slice(None),) * axis + (slice(first, end),)]
        parts.append(reshape(part, (*sizes[:axis], *shape, *sizes[axis + 1 :])))
        first = end
    return parts
