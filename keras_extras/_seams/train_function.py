"""The moment at which Keras' trainer makes the function that takes the steps of `fit`.

Wrapped is `make_train_function` of the trainer, and for layers that must not predict yet
`make_test_function` and `make_predict_function`. Keras calls no callback of a loss or an optimizer
before training begins, and none of an optimizer between two batches; the model is known to neither.
A layer cannot raise from within a compiled prediction. Known to hold since Keras 3.12. A hook of
losses, optimizers and layers for the beginning of training and of predictions would make it
unnecessary.
"""

from collections.abc import Callable
from typing import Any

import keras

from keras_extras._seams.wrapped_methods import wrap_once


def watch_train_functions(
    key: str, before: Callable[[Any], None], made: Callable[[Any], None] | None = None
) -> None:
    """Lets functions be called whenever a model makes its train function.

    Args:
        key: String, the name of the module that asks; a second call with it does nothing.
        before: Function of the model, called before.
        made: Function of the model, called when the model has another `train_function` than it had.
            Defaults to `None`.
    """

    def watching(stock):
        def make_train_function(self, force=False):
            before(self)
            made_before = getattr(self, "train_function", None)
            result = stock(self, force)
            if made is not None and self.train_function is not made_before:
                made(self)
            return result

        return make_train_function

    wrap_once(keras.Model, "make_train_function", watching, key)


def before_evaluation(key: str, before: Callable[[Any], None]) -> None:
    """Lets a function be called whenever a model evaluates or predicts, outside of its graph.

    Args:
        key: String, the name of the module that asks; a second call with it does nothing.
        before: Function of the model.
    """

    def watching(stock):
        def make_function(self, force=False):
            before(self)
            return stock(self, force)

        return make_function

    wrap_once(keras.Model, "make_test_function", watching, key)
    wrap_once(keras.Model, "make_predict_function", watching, key)
