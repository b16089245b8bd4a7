"""Targets and the distributions that are to explain them: shapes that fit, or an error."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.distribution_kinds import unwrap
from keras_extras._core.probability import is_floating, static_shape, tf, tfd


def require_distribution(distribution: Any, owner: str) -> Any:
    """Returns `distribution` if it is one, or says where a distribution comes from."""
    if not isinstance(distribution, tfd.Distribution):
        raise TypeError(
            f"{owner} needs a model whose output is a distribution: end the model with a layer "
            "such as `keras_extras.layers.IndependentNormal`. "
            f"Received: a value of type {type(distribution).__name__}"
        )
    return distribution


def match_targets(y_true: Any, distribution: Any, owner: str) -> Any:
    """Returns `y_true` with the shape and precision of draws, `batch_shape + event_shape`.

    A last axis of length 1 is added or dropped, as Keras does for losses of tensors. Leading axes
    that only the distribution has (several draws of a latent variable) may be missing, and there
    may be more of them than a distribution has that does not depend on the rows. No other shape is
    taken: TFP would broadcast `(n, 1)` against `(n,)` to `(n, n)` silently.

    Args:
        y_true: Tensor of targets.
        distribution: A `tfd.Distribution` whose event is one tensor.
        owner: What asks, the start of the error.

    Raises:
        ValueError: If the shapes do not fit.
    """
    y_true = in_precision_of(distribution, y_true)
    matched = in_shape_of(distribution, y_true)
    if matched is not None:
        return matched
    expected, actual = _shape_of_draws(distribution), static_shape(y_true)
    if expected.rank is None or actual.rank is None:
        raise ValueError(
            f"{owner} needs targets and distributions of known rank. Name the axis in "
            "`tf.squeeze(x, axis=-1)`, or write `tf.ensure_shape(x, (None,))`. "
            f"Received: y_true.shape={actual} and draws of shape {expected}"
        )
    raise ValueError(
        f"{owner} cannot pair targets of shape {_written(actual)} with a distribution of "
        f"batch shape {_written(distribution.batch_shape)} and event shape "
        f"{_written(distribution.event_shape)}. Targets must have shape {_written(expected)}. "
        f"Received: y_true.shape={_written(actual)}"
    )


def in_shape_of(distribution: Any, y_true: Any) -> Any:
    """Returns a tensor of targets in the shape of draws, by the rules of `match_targets`.

    Returns:
        A tensor; None if the shape of the targets is another, or a rank is unknown.
    """
    if not isinstance(distribution.event_shape, tf.TensorShape):
        return y_true
    expected, actual = _shape_of_draws(distribution), static_shape(y_true)
    if expected.rank is None or actual.rank is None:
        return None
    ends_in_one = actual[-1:] == [1]
    if actual.rank == expected.rank + 1 and ends_in_one and not _fits(actual, expected):
        y_true = ops.squeeze(y_true, axis=-1)
    elif actual.rank + 1 == expected.rank and expected[-1:] == [1] and not ends_in_one:
        y_true = ops.expand_dims(y_true, axis=-1)
    # A target for each row would be taken for the entries of one event, where as many.
    lacks_rows = actual.rank <= distribution.event_shape.rank < expected.rank
    shape = static_shape(y_true)
    if not _fits(shape, expected) or (lacks_rows and shape.rank < expected.rank):
        return None
    return y_true


def _shape_of_draws(distribution):
    return distribution.batch_shape.concatenate(distribution.event_shape)


def in_precision_of(distribution: Any, y_true: Any) -> Any:
    """Returns targets, also integers and booleans, in the precision of draws if those are real."""
    y_true = ops.convert_to_tensor(y_true)
    dtype = unwrap(distribution).dtype
    if dtype is None or keras.tree.is_nested(dtype):
        return y_true
    dtype = keras.backend.standardize_dtype(dtype)
    given = keras.backend.standardize_dtype(y_true.dtype)
    is_real = is_floating(given) or given == "bool" or keras.backend.is_int_dtype(given)
    # Labels of a byte, which TFP does not take, but no integers that could overflow.
    is_narrow = given in ("bool", "int8", "uint8")
    return ops.cast(y_true, dtype) if is_real and (is_floating(dtype) or is_narrow) else y_true


def _fits(actual, expected):
    extra = actual.rank - expected.rank
    if extra == 0:
        return actual.is_compatible_with(expected)
    if extra < 0:
        return actual.as_list() == expected[-extra:].as_list()
    # Many targets of one distribution, which has no axis for the rows of data.
    is_one = expected.rank == 0 or actual[0] != expected[0]
    return expected.is_fully_defined() and is_one and actual[extra:] == expected


def _written(shape):
    return str(tuple(shape.as_list()))
