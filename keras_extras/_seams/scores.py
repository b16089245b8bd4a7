"""Targets and predictions on their way into Keras' losses and metrics.

Wrapped are `update_state` of Keras' metrics and `call` of its losses of functions, both public: the
names and objects given to `compile` are Keras' own, and read from shapes what a prediction means.
Read is the private `_fn` of metrics that average a function. Known to hold since Keras 3.12. A
protocol of predictions by which a metric asks for probabilities or entries would make it
unnecessary.
"""

import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_extras._seams.wrapped_methods import owner_of, wrap_once


def take_over_scores(is_ours: Callable[[Any], bool], loss: Callable, metric: Callable) -> None:
    """Lets functions compute Keras' losses and metrics of predictions of ours, once.

    Args:
        is_ours: Function that returns whether predictions are ours; of others all is as before.
        loss: Function of Keras' method, the loss object, targets and predictions, in place of the
            method.
        metric: Function of Keras' method, the metric, targets, predictions and weights, in place of
            the method.
    """

    def of_metric(stock):
        def update_state(self, y_true, y_pred, sample_weight=None):
            if not is_ours(y_pred):
                return stock(self, y_true, y_pred, sample_weight)
            return metric(stock, self, y_true, y_pred, sample_weight)

        return update_state

    def of_loss(stock):
        def call(self, y_true, y_pred):
            if not is_ours(y_pred):
                return stock(self, y_true, y_pred)
            return loss(stock, self, y_true, y_pred)

        return call

    for kind in filter(inspect.isclass, vars(keras.metrics).values()):
        for owner in kind.__mro__:
            method = vars(owner).get("update_state")
            if method is not None and "y_pred" in inspect.signature(method).parameters:
                wrap_once(owner, "update_state", of_metric)
    wrap_once(owner_of(keras.losses.MeanSquaredError, "call"), "call", of_loss)


def function_of(score: Any) -> Callable | None:
    """Returns the function that a loss or metric averages; `None` if it is of another kind."""
    return getattr(score, "fn", getattr(score, "_fn", None))
