"""BetweenBatches: what an optimizer does between two batches of `fit`.

A compiled step can neither raise nor log what is no metric.
"""

import contextlib
from typing import Any

import keras

from keras_extras._core.optimizers import optimizer_of
from keras_extras._seams.train_function import watch_train_functions
from keras_extras._seams.train_state import assign_state, optimizer_state
from keras_extras.optimizers.one_step import one_step_function


class BetweenBatches:
    """A mixin for optimizers; each method may be overridden."""

    def variables_of(self, model: keras.Model) -> list[keras.Variable]:
        """Returns the variables of a model that the optimizer changes."""
        return model.trainable_variables

    def begin_training(self, model: keras.Model) -> None:
        """Called when `model` has made its train function for this optimizer."""

    @property
    def has_failed(self) -> Any:
        """Whether one of the last steps failed."""
        return False

    def raise_if_failed(self) -> None:
        """Called before each execution of steps, to raise an error if one of the last failed."""

    def before_fit(self) -> None:
        """Called before each `fit` or `train_on_batch`."""

    def before_execution(self) -> None:
        """Called before each execution of steps, on TensorFlow."""
        self.raise_if_failed()

    def extra_logs(self) -> dict[str, Any]:
        """Called after each batch; what to log beside the metrics."""
        return {}


def install_between_batches() -> None:
    """Lets Keras' trainer call every `BetweenBatches` that it trains with."""
    watch_train_functions(__name__, _prepare, _call_between_batches)


def _optimizer_of(model):
    optimizer = optimizer_of(model)
    return optimizer if isinstance(optimizer, BetweenBatches) else None


def _prepare(model):
    optimizer = _optimizer_of(model)
    if optimizer is None:
        _refuse_searches_in(model.optimizer)
    else:
        optimizer.before_fit()
        _build(model)  # If this raises, no train function is left that lacks the wrapper.


def _call_between_batches(model):
    optimizer = _optimizer_of(model)
    if optimizer is None:
        return
    optimizer.begin_training(model)
    wrap = _stateless if keras.backend.backend() == "jax" else _stateful
    model.train_function = wrap(model, optimizer, model.train_function)


def _refuse_searches_in(optimizer):
    """Keras' `MultiOptimizer` has nothing but gradients for its optimizers."""
    for held in getattr(optimizer, "optimizers", ()):
        if hasattr(held, "take_step"):
            raise ValueError(
                f"{type(held).__name__} evaluates losses, which {type(optimizer).__name__} cannot "
                "give it. Take `keras_extras.optimizers.PartitionedOptimizer` in its place, which "
                "has the same arguments. Received: a "
                f"{type(optimizer).__name__} that holds {held.name!r}"
            )


def _build(model):
    """Makes the optimizer's variables: in the first step they would have it traced twice."""
    if model.optimizer.built or not model.built:
        return
    variables = optimizer_of(model).variables_of(model)
    if not variables:
        return
    strategy = getattr(model, "distribute_strategy", None)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model.optimizer.build(variables)


def _stateful(model, optimizer, stock_train_function):
    take_steps = one_step_function(model, stock_train_function)

    def train_function(iterator):
        optimizer.before_execution()
        return {**take_steps(iterator), **optimizer.extra_logs()}

    return train_function


def _stateless(model, optimizer, stock_train_function):
    """On JAX variables have no values while `fit` runs: its state has them."""

    def train_function(state, iterator):
        with optimizer_state(model, state):
            failed = bool(optimizer.has_failed)
        if failed:
            model.jax_state_sync()
            optimizer.raise_if_failed()
        try:
            logs, state = stock_train_function(state, iterator)
        except StopIteration:
            raise
        except Exception:
            # Else an error in the first step would leave a model without weights.
            assign_state(model, state)
            raise
        with optimizer_state(model, state):
            return {**logs, **optimizer.extra_logs()}, state

    return train_function
