"""Batches of rows whose order is drawn before each epoch, as `fit` reads them fastest."""

from typing import Any

import keras
import numpy as np


def ordered_batches(arrays: tuple[np.ndarray, ...], batch_size: int, order: Any) -> Any:
    """Returns a dataset of batches of arrays.

    Args:
        arrays: Arrays with as many rows.
        batch_size: Integer, the rows of a batch.
        order: What `row_order` returns; the rows of an epoch come as it stands at its beginning.
    """
    if keras.backend.backend() != "tensorflow":
        return _Batches(arrays, batch_size, order)
    import tensorflow as tf

    known_length = tf.data.experimental.assert_cardinality(-(-len(arrays[0]) // batch_size))
    rows = [tf.constant(array) for array in arrays]
    return _plain(
        tf.data.Dataset.from_tensors(0)
        .flat_map(lambda _: tf.data.Dataset.from_tensor_slices(tf.identity(order)))
        .batch(batch_size)
        .map(lambda chosen: tuple(tf.gather(values, chosen) for values in rows))
        .apply(known_length)
    )


def row_order(num_rows: int) -> Any:
    """Returns the order of rows, to be changed by its method `assign`."""
    if keras.backend.backend() != "tensorflow":
        return _Order(num_rows)
    import tensorflow as tf

    return tf.Variable(np.arange(num_rows))


def batches_in_order(arrays: tuple[np.ndarray, ...], batch_size: int) -> Any:
    """Returns a dataset of batches of arrays, always in the same order."""
    if keras.backend.backend() != "tensorflow":
        return _Batches(arrays, batch_size, _Order(len(arrays[0])))
    import tensorflow as tf

    return _plain(tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size))


class _Order:
    def __init__(self, num_rows):
        self.rows = np.arange(num_rows)

    def assign(self, rows):
        self.rows = rows


class _Batches(keras.utils.PyDataset):
    def __init__(self, arrays, batch_size, order):
        super().__init__()
        self._arrays, self._batch_size, self._order = arrays, batch_size, order

    def __len__(self):
        return -(-len(self._arrays[0]) // self._batch_size)

    def __getitem__(self, index):
        first = index * self._batch_size
        chosen = self._order.rows[first : first + self._batch_size]
        return tuple(array[chosen] for array in self._arrays)


def _plain(dataset):
    """Without what TensorFlow optimizes in each epoch, which takes longer than a short epoch."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)
