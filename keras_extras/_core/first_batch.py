"""How many rows the first batch of a training set has, found so that training misses none."""

import itertools
import types
from typing import Any

import keras

from keras_extras._seams.repeated_dataset import is_repeatable, rows_of_batches


class FirstBatch:
    """The number of rows of a first batch, which is read only if nothing else says it.

    Args:
        x: As of `fit`: a `tf.data.Dataset`, a `keras.utils.PyDataset` or a generator.
    """

    def __init__(self, x: Any):
        self.source = x  # What `fit` is to train on: it yields a batch that was read once more.
        self._rows: int | None = None

    def rows(self) -> int:
        """Returns the number of rows, 0 if there is no batch."""
        if self._rows is None:
            self._rows = self._find()
        return self._rows

    def _find(self):
        x = self.source
        if isinstance(x, types.GeneratorType):
            first, self.source = _with_first(x)
        elif isinstance(x, keras.utils.PyDataset):
            first = x[0]
            if not x.use_multiprocessing:  # Other processes have copies.
                self.source = _WithFirst(x, first)
        else:
            rows = rows_of_batches(x)
            if rows is not None:
                return rows
            if is_repeatable(x):
                first = next(iter(x.take(1)), None)
            else:
                first, self.source = _with_first_of_dataset(x)
        return 0 if first is None else keras.tree.flatten(first)[0].shape[0]


def _with_first(generator):
    """The first batch of a generator, and a generator that still yields it."""
    try:
        first = next(generator)
    except StopIteration:
        return None, generator
    return first, (batch for batch in itertools.chain([first], generator))


def _with_first_of_dataset(dataset):
    """The same for a dataset that goes through Python, of which each batch may come but once."""
    import tensorflow as tf

    iterator = iter(dataset)
    first = next(iterator, None)
    if first is None:
        return None, dataset
    begun = [itertools.chain([first], iterator)]

    def batches():
        yield from begun.pop() if begun else dataset

    restored = tf.data.Dataset.from_generator(batches, output_signature=dataset.element_spec)
    length = dataset.cardinality()
    if length != tf.data.UNKNOWN_CARDINALITY:
        restored = restored.apply(tf.data.experimental.assert_cardinality(length))
    return first, restored


class _WithFirst(keras.utils.PyDataset):
    """A `PyDataset` whose first batch has been read already."""

    def __init__(self, dataset, first):
        super().__init__(workers=dataset.workers, max_queue_size=dataset.max_queue_size)
        self._dataset = dataset
        self._read = [first]

    def __getitem__(self, index):
        return self._read.pop() if index == 0 and self._read else self._dataset[index]

    @property
    def num_batches(self):
        return self._dataset.num_batches

    def on_epoch_begin(self):
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        self._dataset.on_epoch_end()
