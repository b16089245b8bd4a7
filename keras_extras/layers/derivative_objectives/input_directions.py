"""Directions in input space: a fixed array of them, or a function of the inputs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_extras._core.functions import deserialize_function, serialize_function


def check_directions(directions: Any) -> np.ndarray | Callable[[Any], Any]:
    """Returns a function, itself or by its configuration; and anything else as an array."""
    directions = deserialize_function(directions)
    if callable(directions):
        return directions
    try:
        array = np.asarray(directions, dtype="float32")
    except (TypeError, ValueError):
        array = None
    if array is None or array.ndim < 2 or not array.size or not np.isfinite(array).all():
        received = f"of shape {array.shape}" if array is not None else repr(directions)
        raise ValueError(
            "`directions` must be a function of the inputs, or an array of finite numbers of shape "
            f"(number of directions, *shape of one input). Received: directions {received}"
        )
    return array


def directions_at(directions: np.ndarray | Callable[[Any], Any], inputs: Any) -> list[Any]:
    """A list of tensors of the shape and dtype of the inputs."""
    if not callable(directions):
        shape = tuple(inputs.shape[1:])
        if directions.shape[1:] != shape:
            raise ValueError(
                "`directions` must have shape (number of directions, *shape of one input), here "
                f"(k, {', '.join(map(str, shape))}). Received: directions.shape={directions.shape}"
            )
        return [ops.zeros_like(inputs) + ops.cast(d, inputs.dtype) for d in directions]
    result = directions(inputs)
    vectors = list(result) if isinstance(result, Sequence) else [result]
    if not vectors or not all(_is_like(vector, inputs) for vector in vectors):
        raise ValueError(
            "The function `directions` must return a tensor of the shape of the inputs, "
            f"{tuple(inputs.shape)}, or a list of such. Received: {result!r}"
        )
    return [ops.cast(vector, inputs.dtype) for vector in vectors]


def _is_like(vector, inputs):
    shape = getattr(vector, "shape", ())
    pairs = zip(shape, inputs.shape)
    return len(shape) == len(inputs.shape) and all(a == b or None in (a, b) for a, b in pairs)


def directions_config(directions: np.ndarray | Callable[[Any], Any] | None) -> Any:
    """Returns their configuration."""
    if isinstance(directions, np.ndarray):
        return directions.tolist()
    return serialize_function(directions, "directions")
