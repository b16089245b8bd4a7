"""The one seam to `fit`, and the only file that touches what Keras does not make public.

`fit` hands an optimizer gradients and never the model, so an optimizer that evaluates the loss
itself cannot take part. Here the trainer class of Keras gets four wrappers, once, when the first
such optimizer is constructed:

- `train_step`: if the optimizer evaluates losses itself it takes the step, else all is as before;
- `make_train_function`: the compiled step cannot raise, so what it found wrong is raised between
  two batches;
- `_maybe_symbolic_build`: Keras builds a model from the mean of the replicas' shares of a batch,
  which fails if they differ in size, and under MultiWorkerMirroredStrategy always
  (https://github.com/keras-team/keras/issues/20585); here it is built from one share;
- `test_step`: with such an optimizer `evaluate` works under that strategy too.

Keras sums the gradients of all replicas. Those of a search are the same for all of them, and are
applied outside the replicas: `_backend_update_step` and `_apply_weight_decay`.

`tests/test_fit_hook.py` and, for replicas, `tests/test_replicas.py` are the canaries: they fail
when a new version of Keras moves any of this.
"""

import functools
import inspect

import keras
from keras import ops

from keras_extras._core.backend import require_tensorflow
from keras_extras.optimizers.replicas import searching_strategy


def install_fit_hook(optimizer_class: type) -> None:
    """Lets every `optimizer_class` take the training steps of `fit` and `train_on_batch`."""
    require_tensorflow(optimizer_class.__name__)
    trainer = next(cls for cls in keras.Model.__mro__ if "train_step" in vars(cls))
    if hasattr(trainer.train_step, "__wrapped__"):
        return

    def optimizer_of(model):
        optimizer = model.optimizer
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer = optimizer.inner_optimizer
        return optimizer if isinstance(optimizer, optimizer_class) else None

    trainer.train_step = _dispatching(trainer.train_step, optimizer_of)
    trainer.test_step = _with_logs(trainer.test_step, optimizer_of)
    trainer.make_train_function = _checking(trainer.make_train_function, optimizer_of)
    trainer._maybe_symbolic_build = _building_from_a_share(
        trainer._maybe_symbolic_build, optimizer_of
    )


class UpdatesOutsideReplicas:
    """Lets `apply` be called outside the replicas too, with gradients for all of them."""

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        strategy = searching_strategy()
        if strategy is None:
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        for gradient, variable in zip(grads, trainable_variables):
            strategy.extended.update(
                variable.value,
                lambda copy, gradient: self.update_step(gradient, copy, learning_rate),
                args=(gradient,),
                group=False,
            )

    def _apply_weight_decay(self, variables):
        if searching_strategy() is None:
            super()._apply_weight_decay(variables)
        elif self.weight_decay is not None:
            for variable in filter(self._use_weight_decay, variables):
                variable.assign_sub(variable * self.weight_decay * self.learning_rate)


def without_autograph(function):
    """Keeps the `tf.function` of a custom training loop from rewriting `function`."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)


def _dispatching(stock_train_step, optimizer_of):
    @functools.wraps(stock_train_step)
    def train_step(self, data):
        optimizer = optimizer_of(self)
        if optimizer is None:
            return stock_train_step(self, data)
        return _logs(self, _take_step(self, optimizer, data))

    return train_step


def _with_logs(stock_test_step, optimizer_of):
    @functools.wraps(stock_test_step)
    def test_step(self, data):
        logs = stock_test_step(self, data)
        return logs if optimizer_of(self) is None else _logs(self, logs)

    return test_step


def _checking(stock_make_train_function, optimizer_of):
    @functools.wraps(stock_make_train_function)
    def make_train_function(self, force=False):
        made_before = self.train_function
        stock_make_train_function(self, force)
        optimizer = optimizer_of(self)
        if optimizer is None or self.train_function is made_before:
            return
        optimizer.begin_training(self)
        train_function = self.train_function

        def checked_train_function(iterator):
            optimizer.raise_if_failed()
            return {**train_function(iterator), **optimizer.extra_logs()}

        self.train_function = checked_train_function

    return make_train_function


def _building_from_a_share(stock_symbolic_build, optimizer_of):
    @functools.wraps(stock_symbolic_build)
    def symbolic_build(self, iterator=None, data_batch=None):
        strategy = self.distribute_strategy
        if iterator is not None and strategy.num_replicas_in_sync > 1 and optimizer_of(self):
            local = strategy.experimental_local_results
            batch = next(next(iter(iterator))[2])
            data_batch = keras.tree.map_structure(lambda values: local(values)[0], batch)
            iterator = None
        stock_symbolic_build(self, iterator=iterator, data_batch=data_batch)

    return symbolic_build


def _logs(model, logs):
    """As vectors for MultiWorkerMirroredStrategy, over whose first axis Keras takes the mean."""
    import tensorflow as tf

    if not isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return logs
    return keras.tree.map_structure(lambda value: value[None], logs)


def _take_step(model, optimizer, data):
    """Keras' own `train_step`, with `optimizer.take_step` in place of the gradient."""
    replicas = model.distribute_strategy.num_replicas_in_sync
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
