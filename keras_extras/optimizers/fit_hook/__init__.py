"""The one seam to `fit`, and the only folder that touches what Keras does not make public.

`fit` hands an optimizer gradients and never the model, so an optimizer that evaluates the loss
itself cannot take part. Here the `train_step` of Keras' trainer is wrapped, once, when the first
such optimizer is constructed: if the optimizer evaluates losses itself it takes the step, else all
is as before. What a step found wrong is raised between two batches, see `between_batches.py`. Each
backend has a file of its own here.

`tests/test_fit_hook.py` and, for replicas, `tests/test_replicas.py` are the canaries: they fail
when a new version of Keras moves any of this.
"""

import functools
import inspect
from typing import Any

import keras
from keras import ops

from keras_extras._core.backend import backend_module
from keras_extras._core.optimizers import optimizer_of
from keras_extras.optimizers.between_batches import install_between_batches


def install_fit_hook(optimizer_class: type) -> None:
    """Lets every `optimizer_class` take the training steps of `fit` and `train_on_batch`."""
    backend = backend_module(__name__, optimizer_class.__name__)
    trainer = next(cls for cls in keras.Model.__mro__ if "train_step" in vars(cls))

    def hooked_optimizer(model):
        optimizer = optimizer_of(model)
        return optimizer if isinstance(optimizer, optimizer_class) else None

    backend.install(trainer, hooked_optimizer, _take_step)
    install_between_batches()


def _take_step(model: keras.Model, optimizer: Any, data: Any, replicas: int = 1) -> dict[str, Any]:
    """Keras' own `train_step`, with `optimizer.take_step` in place of the gradient."""
    compute_loss = model.compute_loss
    if "training" in inspect.signature(compute_loss).parameters:
        compute_loss = functools.partial(compute_loss, training=True)

    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)

    def loss_and_outputs():
        y_pred = model(x, training=True)
        loss = compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
        # Keras divides losses by the number of replicas.
        return loss * replicas, (y_pred, [ops.copy(state) for state in states])

    if not model.built:
        model(x, training=False)
    if model.optimizer is not optimizer and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    states = model.non_trainable_variables
    before = [ops.copy(state) for state in states]
    batch_size = ops.shape(next(leaf for leaf in keras.tree.flatten(x) if leaf is not None))[0]
    loss, (y_pred, after) = optimizer.take_step(
        loss_and_outputs, model.trainable_variables, batch_size
    )

    # The pass that the logs show also updates moving statistics and seeds. A batch that no
    # candidate could be evaluated on logs NaN and leaves no trace.
    loss = ops.where(optimizer.failed, float("nan"), loss)
    for state, old, new in zip(states, before, after):
        state.assign(ops.where(optimizer.failed, old, new))
    model._loss_tracker.update_state(loss, sample_weight=batch_size)
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
