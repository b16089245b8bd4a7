"""The seam between losses without a gradient and `fit`: it names the optimizers for them.

With a gradient optimizer Keras raises "No gradients provided for any variable", or on JAX trains
with gradients of zero. So `make_train_function` of Keras' trainer is wrapped, once, when the first
such loss is made. `tests/test_losses_without_gradient.py` is the canary.
"""

from typing import Any

import keras

from keras_extras._core.wrapped_methods import wrap_once


class PiecewiseConstantLoss(keras.losses.Loss):
    """Base class of losses whose gradient is zero wherever there is one."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        owner = next(cls for cls in keras.Model.__mro__ if "make_train_function" in vars(cls))
        wrap_once(owner, "make_train_function", _checking_the_optimizer, key=__name__)


def _checking_the_optimizer(stock):
    def make_train_function(self, force=False):
        _check_optimizer(self)
        return stock(self, force)

    return make_train_function


def _check_optimizer(model):
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    # Those of `keras_extras.optimizers` that evaluate losses, and steps of the user's own.
    if optimizer is None or hasattr(optimizer, "take_step") or _has_own_train_step(model):
        return
    losses = [_loss(leaf) for leaf in keras.tree.flatten(getattr(model, "loss", None))]
    losses = [loss for loss in losses if loss is not None]
    if losses and all(isinstance(loss, PiecewiseConstantLoss) for loss in losses):
        raise ValueError(
            f"No gradients provided for any variable: {type(losses[0]).__name__} counts decisions "
            f"and has none, and the optimizer {optimizer.name!r} needs them. Compile the model "
            "with `keras_extras.optimizers.MonteCarloOptimizer()` or `CMAES()`, or train with a "
            "loss that has a gradient and watch this one as a metric. "
            f"Received: loss={losses[0].name!r}"
        )


def _loss(leaf):
    """A loss as an object, where its name is given."""
    if not isinstance(leaf, str):
        return leaf
    try:
        return keras.losses.get(leaf)
    except ValueError:
        return None


def _has_own_train_step(model):
    owner = next(cls for cls in type(model).__mro__ if "train_step" in vars(cls))
    return owner not in keras.Model.__mro__
