"""Checks of the arrays that training starts from, before any time is spent."""

from typing import Any

import keras
import numpy as np

_PREPROCESSOR = (
    "Give the pipeline a preprocessor that fills them in, such as "
    "keras_extras.layers.MissingValueImputer."
)


def as_inputs(x: Any) -> np.ndarray:
    """Returns `x` as a float array with one row for each event."""
    try:
        x = np.asarray(x, dtype=keras.config.floatx())
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`x` must be an array of numbers. Received: x of type {type(x).__name__}"
        ) from error
    if x.ndim < 2 or len(x) == 0:
        raise ValueError(
            "`x` must have shape (n, d) with at least one row, or a higher rank. "
            f"Received: x.shape={x.shape}"
        )
    return x


def as_labels(y: Any, name: str = "y") -> np.ndarray:
    """Returns labels or weights of rows as an array of finite numbers."""
    y = np.asarray(y)
    if y.dtype.kind not in "biuf":
        raise TypeError(
            f"`{name}` must hold numbers, as labels 0 for background and 1 for signal. "
            f"Received: {name} of dtype {y.dtype}"
        )
    check_finite(f"`{name}`", y, instead="Leave these rows out.")
    return y


def check_same_rows(**arrays: Any) -> None:
    """Raises if the arrays, those that are None aside, do not have equally many rows."""
    rows = {name: len(array) for name, array in arrays.items() if array is not None}
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"len({name})={count}" for name, count in rows.items())
        raise ValueError(
            f"{', '.join(f'`{name}`' for name in rows)} must have one row for each event. "
            f"Received: {listed}"
        )


def check_finite(name: str, array: np.ndarray, instead: str = _PREPROCESSOR) -> None:
    """Raises if `array` holds NaN or infinity, and says where first and what to do instead."""
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        first = tuple(int(index) for index in wrong[0])
        raise ValueError(
            f"{name} must be finite. Received: {len(wrong)} values that are NaN or infinite, the "
            f"first at index {first}. {instead}"
        )
