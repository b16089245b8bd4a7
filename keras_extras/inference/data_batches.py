"""Batches of inputs, targets and weights of rows, from arrays and from datasets."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_extras._core.data import check_numbers


def data_batches(x: Any, y: Any = None, sample_weight: Any = None) -> Iterator[tuple]:
    """Yields tuples `(x, y, sample_weight)`: arrays as one, datasets batch by batch.

    Args:
        x: Inputs, an array or a structure of arrays; or a `tf.data.Dataset` or a
            `keras.utils.PyDataset` of batches `(x, y)` or `(x, y, sample_weight)`.
        y: Targets of arrays. Defaults to `None`.
        sample_weight: Weights of the rows of arrays. Defaults to `None`.

    Raises:
        TypeError: If `x` is an iterator, or batches have no targets.
        ValueError: If targets are given twice or not at all, or a dataset is empty, endless, or
            ends early.
    """
    if isinstance(x, Iterator):
        raise TypeError(
            "`x` must be an array, a `tf.data.Dataset` or a `keras.utils.PyDataset`; "
            "`tf.data.Dataset.from_generator` makes a dataset of a function with `yield`. "
            f"Received: x of type {type(x).__name__}, which can be read only once"
        )
    # Not by its class, so that TensorFlow is not imported where there is none.
    if not (hasattr(x, "cardinality") or isinstance(x, keras.utils.PyDataset)):
        if y is None:
            raise ValueError("`y` must be given where `x` is an array. Received: y=None")
        yield x, y, sample_weight
        return
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(
                f"`{name}` must be `None` where `x` is a dataset, whose batches hold it. "
                f"Received: {name} of type {type(value).__name__}"
            )
    is_python = isinstance(x, keras.utils.PyDataset)
    length = x.num_batches if is_python else int(x.cardinality())
    if length is None or length == -1:  # of `tf.data`, of endless datasets
        raise ValueError(
            "`x` must be a dataset that ends. Received: an endless one; "
            + ("let `num_batches` return a number" if is_python else "`x.take(n)` has n batches")
        )
    count = 0
    for batch in _read(x, length, is_python):
        count += 1
        parts = batch if isinstance(batch, list | tuple) else (batch,)
        if not 2 <= len(parts) <= 3 or parts[1] is None:
            raise TypeError(
                "`x` must be a dataset of batches (x, y) or (x, y, sample_weight). Received: a "
                f"batch of type {type(batch).__name__} with {len(parts)} parts"
            )
        yield (*parts, None)[:3]
    if count == 0:
        raise ValueError("`x` must have rows. Received: an empty dataset")
    if count < length:
        raise _ended(count, length)


def _read(dataset, length, is_python):
    """The batches of a dataset, whose own errors say how far it was read."""
    batches = iter(dataset) if not is_python else map(dataset.__getitem__, range(length))
    for count in range(2**63):
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:
            of_tensorflow = type(error).__module__.startswith("tensorflow.")
            if not (isinstance(error, LookupError) or of_tensorflow):
                raise
            raise _ended(count, length) from error
        yield batch


def _ended(count, length):
    expected = f"{length} batches" if length >= 0 else "its end"
    return ValueError(
        f"`x` must be a dataset that can be read to its end. Received: {count} batches before it "
        f"stopped, of {expected}"
    )


def row_weights(sample_weight: Any, num_rows: int, dtype: str) -> np.ndarray:
    """Returns how often each row counts, an array of shape `(num_rows,)`.

    Args:
        sample_weight: Array of shape `(num_rows,)` or `(num_rows, 1)`; `None` for ones.
        num_rows: Integer.
        dtype: String.

    Raises:
        TypeError, ValueError: If they are no real, finite and non-negative numbers, or their shape
            is another.
    """
    if sample_weight is None:
        return np.ones(num_rows, dtype)
    check_numbers("sample_weight", sample_weight)
    weights = np.asarray(sample_weight).astype(dtype)
    if weights.shape not in ((num_rows,), (num_rows, 1)):
        raise ValueError(
            f"`sample_weight` must have one number for each row, shape ({num_rows},). "
            f"Received: sample_weight of shape {weights.shape}"
        )
    if (weights < 0.0).any():
        raise ValueError(
            f"`sample_weight` must not be negative. Received: {weights.min()} as the least"
        )
    return weights.reshape(num_rows)
