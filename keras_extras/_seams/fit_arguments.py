"""The arguments of `fit`, before and while it trains.

Wrapped is the public `fit` of Keras' trainer. Callbacks are given neither the data nor the steps of
an epoch, and layers, losses and optimizers are given nothing. Known to hold since Keras 3.12. A
callback that is given the arguments of `fit` would make it unnecessary.
"""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_extras._seams.wrapped_methods import wrap_once


def surround_fit(
    key: str, around: Callable[[Any, dict[str, Any]], contextlib.AbstractContextManager]
) -> None:
    """Lets every `fit` run within a block.

    Args:
        key: String, the name of the module that asks; a second call with it does nothing.
        around: Function from the model and the arguments, a dict by name, to the block. What it
            changes in the dict before the block begins is what `fit` is called with.
    """
    wrap_once(keras.Model, "fit", lambda stock: surrounded(stock, around), key)


def surrounded(stock: Callable, around: Callable) -> Callable:
    """Returns `fit` within a block, see `surround_fit`."""
    signature = inspect.signature(stock)
    if "x" not in signature.parameters:  # Another library's wrapper of any arguments.
        signature = inspect.signature(_documented_fit)

    def fit(self, *args, **kwargs):
        try:
            call = signature.bind(self, *args, **kwargs)
        except TypeError:
            return stock(self, *args, **kwargs)  # raises what the user should see
        call.apply_defaults()
        given = dict(call.arguments)
        with around(self, call.arguments):
            if all(call.arguments[name] is value for name, value in given.items()):
                return stock(self, *args, **kwargs)
            return stock(*call.args, **call.kwargs)

    return fit


def _documented_fit(
    self,
    x=None,
    y=None,
    batch_size=None,
    epochs=1,
    verbose="auto",
    callbacks=None,
    validation_split=0.0,
    validation_data=None,
    shuffle=True,
    class_weight=None,
    sample_weight=None,
    initial_epoch=0,
    steps_per_epoch=None,
    **others,
):
    """Has the arguments of `keras.Model.fit`."""
