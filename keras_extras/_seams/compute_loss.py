"""Targets and predictions of a model, before Keras computes losses and metrics of them.

Wrapped are the public `compute_loss` and `compute_metrics` of models. A layer has no way to reach
them in the model that it will be part of, and a loss is given predictions after Keras has squeezed,
expanded or cast them. Known to hold since Keras 3.12. A method of outputs that Keras calls with the
targets would make it unnecessary.
"""

from collections.abc import Callable
from typing import Any

import keras

from keras_extras._seams.wrapped_methods import wrap_once


def adapt_predictions(adapt: Callable[[Any, Any, Any, Any], tuple[Any, Any]]) -> None:
    """Lets every model compute losses and metrics of what a function returns, once.

    Args:
        adapt: Function from the model, inputs, targets and predictions to the targets and
            predictions. It returns those of models without objects of ours as they are.
    """
    wrap_once(keras.Model, "compute_loss", lambda stock: _of_loss(stock, adapt))
    wrap_once(keras.Model, "compute_metrics", lambda stock: _of_metrics(stock, adapt))


def _of_loss(stock, adapt):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        y, y_pred = adapt(self, x, y, y_pred)
        return stock(self, x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)

    return compute_loss


def _of_metrics(stock, adapt):
    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return stock(self, x, *adapt(self, x, y, y_pred), sample_weight)

    return compute_metrics
