"""The seam of `fit` on TensorFlow: one search over replicas.

- `train_step`: Keras divides losses by the number of replicas;
- `_maybe_symbolic_build`: Keras builds a model from the mean of the replicas' shares of a batch,
  which fails if they differ in size, and under MultiWorkerMirroredStrategy always
  (https://github.com/keras-team/keras/issues/20585); here it is built from one share;
- `test_step`: with such an optimizer `evaluate` works under that strategy too.

Keras sums the gradients of all replicas. Those of a search are the same for all of them, and are
applied outside the replicas: `_backend_update_step` and `_apply_weight_decay` of our optimizers
are overridden, which are private to Keras. Of Keras' own optimizers that take a mean gradient in
all replicas `_all_reduce_sum_gradients` is replaced meanwhile.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from keras_extras._seams.symbolic_build import wrap_symbolic_build
from keras_extras._seams.wrapped_methods import wrap_once


def install(
    trainer: Any, optimizer_of: Callable[[Any], Any], take_step: Callable[..., Any]
) -> None:
    """Wraps the methods of Keras' trainer.

    Args:
        trainer: The class that has them.
        optimizer_of: Function from a model to the optimizer that takes its steps, or `None`.
        take_step: Function of model, optimizer, data and number of replicas that takes a step and
            returns its logs.
    """
    wrap_once(trainer, "train_step", lambda stock: _dispatching(stock, optimizer_of, take_step))
    wrap_once(trainer, "test_step", lambda stock: _with_logs(stock, optimizer_of))
    wrap_symbolic_build(lambda stock: _building_from_a_share(stock, optimizer_of), __name__)


class UpdatesOutsideReplicas:
    """Lets `apply` be called outside the replicas too, with gradients for all of them."""

    def searching_strategy(self) -> Any:
        """Returns the strategy whose replicas are updated from outside, else `None`."""
        raise NotImplementedError

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        strategy = self.searching_strategy()
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
        if self.searching_strategy() is None:
            super()._apply_weight_decay(variables)
        elif self.weight_decay is not None:
            for variable in filter(self._use_weight_decay, variables):
                variable.assign_sub(variable * self.weight_decay * self.learning_rate)


@contextlib.contextmanager
def gradients_of_all(optimizers: Iterable[Any]) -> Iterator[None]:
    """Within it `apply` of Keras' optimizers, called in each replica, adds up no gradients."""
    name, optimizers = "_all_reduce_sum_gradients", list(optimizers)
    for optimizer in optimizers:
        vars(optimizer)[name] = list
    try:
        yield
    finally:
        for optimizer in optimizers:
            del vars(optimizer)[name]


def _dispatching(stock_train_step, optimizer_of, take_step):
    def train_step(self, data):
        optimizer = optimizer_of(self)
        if optimizer is None:
            return stock_train_step(self, data)
        replicas = self.distribute_strategy.num_replicas_in_sync
        return _logs(
            self, optimizer.traced(lambda data: take_step(self, optimizer, data, replicas), data)
        )

    return train_step


def _with_logs(stock_test_step, optimizer_of):
    def test_step(self, data):
        logs = stock_test_step(self, data)
        return logs if optimizer_of(self) is None else _logs(self, logs)

    return test_step


def _building_from_a_share(stock_symbolic_build, optimizer_of):
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
