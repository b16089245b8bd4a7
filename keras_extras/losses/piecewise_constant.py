"""PiecewiseConstantLoss: the base of losses without a gradient.

With a gradient optimizer Keras raises "No gradients provided for any variable", or on JAX trains
with gradients of zero. So each `fit` checks its optimizer, from the first such loss on.
"""

from typing import Any

import keras

from keras_extras._core.optimizers import optimizer_of
from keras_extras._seams.train_function import watch_train_functions
from keras_extras._seams.wrapped_methods import owner_of


class PiecewiseConstantLoss(keras.losses.Loss):
    """Base class of losses whose gradient is zero wherever there is one."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        watch_train_functions(__name__, _check_optimizer)


def _check_optimizer(model):
    optimizer = optimizer_of(model)
    # Those of `keras_extras.optimizers` that evaluate losses, and steps of the user's own.
    if optimizer is None or hasattr(optimizer, "take_step") or _has_own_train_step(model):
        return
    losses = [loss for loss in keras.tree.flatten(getattr(model, "loss", None)) if loss is not None]
    kinds = [_kind(loss) for loss in losses]
    if kinds and all(issubclass(kind, PiecewiseConstantLoss) for kind in kinds):
        raise ValueError(
            f"No gradients provided for any variable: {kinds[0].__name__} counts decisions "
            f"and has none, and the optimizer {optimizer.name!r} needs them. Compile the model "
            "with `keras_extras.optimizers.MonteCarloOptimizer()` or `CMAES()`, or train with a "
            "loss that has a gradient and watch this one as a metric. "
            f"Received: loss={getattr(losses[0], 'name', losses[0])!r}"
        )


def _kind(loss):
    """The class of a loss, which may be given by its name."""
    if not isinstance(loss, str):
        return type(loss)
    registered = keras.saving.get_registered_object(loss)
    return registered if isinstance(registered, type) else type(None)


def _has_own_train_step(model):
    return owner_of(type(model), "train_step") not in keras.Model.__mro__
