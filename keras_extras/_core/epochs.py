"""Layers that accumulate over an epoch, with calls from `fit` at its beginning and end.

They have the methods `begin_epoch`, `end_epoch` and `check_current`, and the attribute
`predicts_with_sums`. Of models without such a layer nothing changes.
"""

import contextlib
import contextvars
from typing import Any

import keras

from keras_extras._seams.fit_arguments import surround_fit
from keras_extras._seams.layers_within import layers_within
from keras_extras._seams.train_function import before_evaluation

_in_fit: contextvars.ContextVar[bool] = contextvars.ContextVar("in_fit", default=False)


def accumulate_over_epochs() -> None:
    """Lets every later `fit`, `evaluate` and `predict` look for such layers."""
    surround_fit(__name__, _around_fit)
    before_evaluation(__name__, _check_outside_of_fit)


def accumulating_layers(model: Any) -> list[Any]:
    """Returns the built layers of a model that accumulate over an epoch.

    Args:
        model: Keras model.
    """
    return [layer for layer in layers_within(model) if hasattr(layer, "end_epoch") and layer.built]


def check_current(model: Any) -> None:
    """Raises if a layer of the model has accumulated nothing, or part of an epoch.

    Args:
        model: Keras model.
    """
    for layer in accumulating_layers(model):
        layer.check_current()


def _check_outside_of_fit(model):
    # Validation within `fit` calls this before the callback.
    if not _in_fit.get():
        for layer in accumulating_layers(model):
            if layer.predicts_with_sums:
                layer.check_current()


@contextlib.contextmanager
def _around_fit(model, arguments):
    if accumulating_layers(model) or not model.built:
        given = arguments["callbacks"]
        is_list = isinstance(given, keras.callbacks.CallbackList)
        others = given.callbacks if is_list else keras.tree.flatten(given or [])
        callbacks = [_Epochs(is_alone=not others), *others]
        if is_list:
            callbacks = keras.callbacks.CallbackList(callbacks, model=model, **given.params)
        arguments["callbacks"] = callbacks
    token = _in_fit.set(True)
    try:
        yield
    finally:
        _in_fit.reset(token)


class _Epochs(keras.callbacks.Callback):
    """Calls the methods of the layers.

    It is the first callback, so that others find at the end of an epoch what it has set, and that
    training which is stopped then has been stopped in the midst of the epoch. Alone it calls
    `end_epoch` before validation and after the last epoch only, as nothing else needs it.
    """

    def __init__(self, is_alone: bool):
        super().__init__()
        self._is_alone = is_alone
        self._is_complete = False

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == 0:
            for layer in accumulating_layers(self.model):
                layer.begin_epoch()

    def on_test_begin(self, logs: Any = None) -> None:
        self._end_epoch()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._is_complete = not self.model.stop_training
        if not self._is_alone:
            self._end_epoch()

    def on_train_end(self, logs: Any = None) -> None:
        if self._is_alone and self._is_complete:
            for layer in accumulating_layers(self.model):
                layer.end_epoch()

    def _end_epoch(self):
        if not self.model.stop_training:
            for layer in accumulating_layers(self.model):
                layer.end_epoch()
