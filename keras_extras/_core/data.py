"""Checks of data at every entry point: real, finite numbers, and targets that fit the outputs."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

# Losses of Keras whose targets have another shape than the outputs.
_OF_OTHER_SHAPES = ("sparse", "ctc", "circle", "generalized")


def check_data(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    call: Callable[[Any], Any] | None = None,
) -> None:
    """Raises unless all numbers are real and finite; values that are being compiled are unknown.

    NaN may stand in `x` for missing values that a model fills in: its outputs are finite then.

    Args:
        x: Inputs, an array or a structure of arrays.
        y: Targets, likewise. Defaults to `None`.
        sample_weight: Weights of the rows, likewise. Defaults to `None`.
        call: Function from inputs to outputs, to find out whether NaN is filled in. Defaults to
            `None`, where NaN is refused.
    """
    check_numbers("y", y)
    check_numbers("sample_weight", sample_weight)
    has_missing = call is not None and check_numbers("x", x, may_be_missing=True)
    if call is None or (has_missing and not _all_finite(call(x))):
        check_numbers("x", x)


def check_numbers(name: str, values: Any, may_be_missing: bool = False) -> bool:
    """Raises unless all arrays of a structure hold real and finite numbers.

    Args:
        name: String, the argument in messages.
        values: Array or structure of arrays, `None` for what is missing.
        may_be_missing: Boolean, whether NaN and strings are taken. Defaults to `False`.

    Returns:
        Whether there is NaN.
    """
    has_missing = False
    for leaf in keras.tree.flatten(values):
        array = _known_array(leaf)
        # Some models take strings.
        if array is None or (may_be_missing and not _is_number(array.dtype)):
            continue
        if not _is_number(array.dtype):
            raise TypeError(
                f"`{name}` must be an array of numbers, or a structure of arrays. "
                f"Received: a value of type {type(leaf).__name__} and dtype {array.dtype}"
            )
        if array.dtype.kind == "c":
            raise TypeError(
                f"`{name}` must hold real numbers. Received: {name} of dtype {array.dtype}; take "
                "real and imaginary parts, or absolute values"
            )
        if array.dtype.kind in "biu":
            continue
        is_finite = np.isfinite(array)
        if not is_finite.all():
            is_missing = np.isnan(array)
            has_missing |= bool(is_missing.any())
            if not may_be_missing or not (is_finite | is_missing).all():
                first = tuple(int(places[0]) for places in np.nonzero(~is_finite))
                raise ValueError(
                    f"`{name}` must be finite. Received: {array[first]} at {first}, in all "
                    f"{np.sum(~is_finite)} of {array.size} entries NaN or infinite"
                )
    return has_missing


def _known_array(leaf):
    """An array; None for what is missing or being compiled."""
    if leaf is None:
        return None
    if not ops.is_tensor(leaf):
        return np.asarray(leaf)
    try:
        return ops.convert_to_numpy(leaf)
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return None


def _is_number(dtype):
    return dtype.kind in "biufc" or dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def _all_finite(outputs):
    arrays = [np.asarray(ops.convert_to_tensor(output)) for output in keras.tree.flatten(outputs)]
    return all(np.isfinite(array).all() for array in arrays)


def paired_targets(
    y: Any, outputs: Any, loss: Any, names: Sequence[str] = (), sample_weight: Any = None
) -> Any:
    """Returns targets of the rank of the outputs, or raises if a loss would broadcast them.

    A last axis of length 1 is added or dropped, as losses of Keras do. Other shapes are an error
    for losses of Keras that compare entries; further losses may take targets of any shape.

    Args:
        y: Tensor of targets, or a structure of them.
        outputs: Tensor that the model returns, or a structure of them; one row is enough.
        loss: As in `model.compile`.
        names: The names of the outputs. Defaults to `()`.
        sample_weight: Tensor of weights. Defaults to `None`.
    """
    outputs = _by_name(outputs, names)
    targets, losses, weights = (
        _by_name(part, names or list(outputs)) for part in (y, loss, sample_weight)
    )
    paired = dict(targets)
    for name, output in outputs.items():
        if name not in targets or targets[name] is None or hasattr(output, "made_from"):
            continue
        paired[name] = _of_rank(targets[name], output)
        if compares_entries(losses.get(name, loss)):
            _check_pair(paired[name], output, weights.get(name))
    if isinstance(y, dict):
        return paired
    if isinstance(y, list | tuple):
        return [*paired.values(), *y[len(paired) :]]
    return next(iter(paired.values()), y)


def _of_rank(target, output):
    """The target with a last axis of length 1 added or dropped."""
    rank = len(output.shape)
    if len(target.shape) == rank - 1 and output.shape[-1] == 1 and rank > 1:
        return ops.expand_dims(target, -1)
    if len(target.shape) == rank + 1 and target.shape[-1] == 1:
        return ops.squeeze(target, -1)
    return target


def _check_pair(target, output, weight):
    row = tuple(output.shape[1:])
    if not _fits(tuple(target.shape[1:]), row):
        raise ValueError(
            f"`y` must have the shape of the outputs, {_written(row)}, because the loss compares "
            f"entries. Received: y of shape {tuple(target.shape)}"
        )
    if weight is not None and not any(
        _fits(tuple(weight.shape[1:]), shape) for shape in ((), (1,), row, row[:-1])
    ):
        raise ValueError(
            "`sample_weight` must have one number for each row, shape (n,) or (n, 1). "
            f"Received: sample_weight of shape {tuple(weight.shape)}"
        )


def compares_entries(loss: Any) -> bool:
    """Whether a loss is one of Keras that compares targets with outputs entry by entry."""
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return False
    function = getattr(loss, "fn", loss)
    owner = type(loss) if isinstance(loss, keras.losses.Loss) else function
    if not all(str(getattr(f, "__module__", "")).startswith("keras.") for f in (owner, function)):
        return False
    name = getattr(owner, "__name__", "").lower()
    return loss is not None and not any(part in name for part in _OF_OTHER_SHAPES)


def _by_name(values, names):
    if isinstance(values, dict):
        return values
    if isinstance(values, list | tuple):
        return dict(zip(names or range(len(values)), values))
    return {} if values is None else dict.fromkeys(list(names)[:1] or [0], values)


def _fits(shape, other):
    return len(shape) == len(other) and all(a == b or None in (a, b) for a, b in zip(shape, other))


def _written(row):
    return f"({', '.join(['n', *map(str, row)])}{'' if row else ','})"
