"""The data that `fit` trains on, and the epoch that it starts with.

Keras does not pass the data to callbacks. `fit` makes an iterator of batches, shows it to the
method that builds the model, makes its train function, and then calls the callbacks. The first two
are wrapped and hold a weak reference to the iterator; nothing else changes. Read are Keras'
`EpochIterator`, the private attributes of its data adapters, and `_initial_epoch` of the model.
Known to hold since Keras 3.12. A callback that is given the data of `fit` would make it
unnecessary.
"""

import weakref
from typing import Any

import keras

from keras_extras._seams.symbolic_build import wrap_symbolic_build
from keras_extras._seams.train_function import watch_train_functions

_shown: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_of_fit: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def remember_epoch_iterators() -> None:
    """Lets `epoch_iterator_of` know the iterator of every later `fit`."""
    wrap_symbolic_build(_remembering, __name__)
    watch_train_functions(__name__, _take_that_of_fit)


def epoch_iterator_of(model: keras.Model) -> Any:
    """Returns Keras' `EpochIterator` of the `fit` that runs, in `on_train_begin`; else `None`."""
    reference = _of_fit.pop(model, None)
    return None if reference is None else reference()


def dataset_of(iterator: Any) -> Any:
    """Returns the dataset that an `EpochIterator` goes through, `None` of arrays and generators."""
    adapter = iterator.data_adapter
    return getattr(adapter, "py_dataset", getattr(adapter, "_dataset", None))


def reads_generator(iterator: Any) -> bool:
    """Returns whether an `EpochIterator` goes through a generator."""
    return hasattr(iterator.data_adapter, "generator")


def first_batch_of(iterator: Any) -> Any:
    """Returns the first batch of arrays or of a generator, `None` of other data."""
    adapter = iterator.data_adapter
    if reads_generator(iterator):
        return adapter._first_batches
    if dataset_of(iterator) is not None or hasattr(adapter, "_dataloader"):
        return None
    return next(iter(iterator._get_iterator()))


def leave_an_epoch_aside(iterator: Any) -> None:
    """Draws the batches of one epoch, as training does."""
    with iterator.catch_stop_iteration():
        for first, last, batches in iterator:
            next(batches)  # Without one, the epoch ends here as it does in training.
            for _ in range(last - first):
                next(batches, None)


def forget_initial_epoch(model: keras.Model) -> None:
    """Lets the next `fit` start at its own `initial_epoch`, and not at that of a backup."""
    model._initial_epoch = None


def _remembering(stock):
    def symbolic_build(self, iterator=None, data_batch=None):
        if iterator is not None:
            _shown[self] = weakref.ref(iterator)
        return stock(self, iterator=iterator, data_batch=data_batch)

    return symbolic_build


def _take_that_of_fit(model):
    if model in _shown:
        _of_fit[model] = _shown.pop(model)
