"""The seam to the data that `fit` trains on, and to the epoch that it starts with.

Keras does not pass the data to callbacks. `fit` makes an iterator of batches, shows it to the
method that builds the model, makes its train function, and then calls the callbacks. The first two
are wrapped, once, when the first `BackupAndResume` is constructed, and hold a weak reference to the
iterator; nothing else changes.
`tests/test_resumed_data.py` is the canary.
"""

import weakref
from typing import Any

import keras

from keras_extras._core.wrapped_methods import wrap_once

_shown: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_of_fit: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def remember_epoch_iterators() -> None:
    """Lets `epoch_iterator_of` know the iterator of every later `fit`."""
    is_jax = keras.backend.backend() == "jax"
    for name, wrap in (
        ("_symbolic_build" if is_jax else "_maybe_symbolic_build", _remembering),
        ("make_train_function", _taking_that_of_fit),
    ):
        owner = next(cls for cls in keras.Model.__mro__ if name in vars(cls))
        wrap_once(owner, name, wrap, key=__name__)


def epoch_iterator_of(model: keras.Model) -> Any:
    """Returns Keras' `EpochIterator` of the `fit` that runs, in `on_train_begin`; else `None`."""
    reference = _of_fit.pop(model, None)
    return None if reference is None else reference()


def dataset_of(iterator: Any) -> Any:
    """Returns the dataset that an `EpochIterator` goes through, `None` of arrays and generators."""
    adapter = iterator.data_adapter
    return getattr(adapter, "py_dataset", getattr(adapter, "_dataset", None))


def first_batch_of(iterator: Any) -> Any:
    """Returns the first batch of arrays or of a generator, `None` of other data."""
    adapter = iterator.data_adapter
    if hasattr(adapter, "generator"):
        return adapter._first_batches
    if dataset_of(iterator) is not None or hasattr(adapter, "_dataloader"):
        return None
    return next(iter(iterator._get_iterator()))


def forget_initial_epoch(model: keras.Model) -> None:
    """Lets the next `fit` start at its own `initial_epoch`, and not at that of a backup."""
    model._initial_epoch = None


def _remembering(stock):
    def symbolic_build(self, iterator=None, data_batch=None):
        if iterator is not None:
            _shown[self] = weakref.ref(iterator)
        return stock(self, iterator=iterator, data_batch=data_batch)

    return symbolic_build


def _taking_that_of_fit(stock):
    def make_train_function(self, force=False):
        if self in _shown:
            _of_fit[self] = _shown.pop(self)
        return stock(self, force)

    return make_train_function
