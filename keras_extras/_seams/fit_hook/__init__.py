"""The seam by which an optimizer takes the training steps of `fit` itself.

`fit` hands an optimizer gradients and never the model, so an optimizer that evaluates the loss
itself cannot take part. Here the `train_step` of Keras' trainer is wrapped, once, when the first
such optimizer is constructed: if the optimizer is one, it takes the step, else all is as before.
Read is the private `_loss_tracker` of the model, for the logs. Each backend has a module of its
own, with what else it wraps.

Known to hold since Keras 3.12. A method of optimizers that `train_step` calls with a function that
returns the loss would make it unnecessary.
"""

import functools
import inspect
from typing import Any

import keras
from keras import ops

from keras_extras._core.backend import backend_module
from keras_extras._core.optimizers import optimizer_of
from keras_extras._seams.wrapped_methods import owner_of


def install_fit_hook(optimizer_class: type) -> None:
    """Lets every `optimizer_class` take the training steps of `fit` and `train_on_batch`.

    Args:
        optimizer_class: The class. It has `variables_of`, `take_step`, `traced`, `failed`,
            `placed_batch`, `explained_errors` and `searching_strategy` of
            `keras_extras.optimizers.LossEvaluatingOptimizer`.
    """
    backend = backend_module(__name__, optimizer_class.__name__)

    def hooked_optimizer(model):
        optimizer = optimizer_of(model)
        return optimizer if isinstance(optimizer, optimizer_class) else None

    backend.install(owner_of(keras.Model, "train_step"), hooked_optimizer, _take_step)


def _take_step(model: keras.Model, optimizer: Any, data: Any, replicas: int = 1) -> dict[str, Any]:
    """Keras' own `train_step`, with `optimizer.take_step` in place of the gradient."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    loss_fn = BatchLoss(model, x, y, sample_weight, replicas)
    if not model.built:
        model(x, training=False)
    variables = optimizer.variables_of(model)
    if model.optimizer is not optimizer and not model.optimizer.built:
        model.optimizer.build(variables)
    states = model.non_trainable_variables
    before = [ops.copy(state) for state in states]
    batch_size = ops.shape(next(leaf for leaf in keras.tree.flatten(x) if leaf is not None))[0]
    loss, (y_pred, after) = optimizer.take_step(loss_fn, variables, batch_size)

    # The pass that the logs show also updates moving statistics and seeds. A batch that no
    # candidate could be evaluated on logs NaN and leaves no trace.
    loss = ops.where(optimizer.failed, float("nan"), loss)
    for state, old, new in zip(states, before, after):
        state.assign(ops.where(optimizer.failed, old, new))
    model._loss_tracker.update_state(loss, sample_weight=batch_size)
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


class BatchLoss:
    """The loss of a batch of `fit`, whole or in two parts.

    Called it returns the loss with outputs and states for the logs. `outputs` calls the model, and
    `loss` compares outputs with the targets and adds the penalties of the last call.

    Attributes:
        x: The inputs of the batch.
    """

    def __init__(self, model: keras.Model, x: Any, y: Any, sample_weight: Any, replicas: int):
        compute_loss = model.compute_loss
        if "training" in inspect.signature(compute_loss).parameters:
            compute_loss = functools.partial(compute_loss, training=True)
        self.x = x
        self._compute_loss = functools.partial(compute_loss, x=x, y=y, sample_weight=sample_weight)
        self._model, self._replicas = model, replicas

    def outputs(self, x: Any) -> Any:
        """Returns the outputs of the model in training, for these inputs."""
        return self._model(x, training=True)

    def loss(self, y_pred: Any) -> Any:
        """Returns the loss of outputs for this batch."""
        # Keras divides losses by the number of replicas.
        return self._compute_loss(y_pred=y_pred) * self._replicas

    def __call__(self) -> tuple[Any, Any]:
        y_pred = self.outputs(self.x)
        loss = self.loss(y_pred)
        return loss, (y_pred, [ops.copy(s) for s in self._model.non_trainable_variables])
