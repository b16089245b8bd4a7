"""BetweenBatches: what an optimizer does between two batches of `fit`.

A compiled step can neither raise nor log what is no metric. So `make_train_function` of Keras'
trainer is wrapped, once, when the first such optimizer is constructed. `tests/test_fit_hook.py` and
`tests/test_hypergradient_descent.py` are the canaries.
"""

import contextlib
from typing import Any

import keras

from keras_extras._core.optimizers import optimizer_of
from keras_extras._core.stateless import substituted
from keras_extras._core.wrapped_methods import wrap_once


class BetweenBatches:
    """A mixin for optimizers; each method may be overridden."""

    def begin_training(self, model: keras.Model) -> None:
        """Called when `model` has made its train function for this optimizer."""

    @property
    def has_failed(self) -> Any:
        """Whether one of the last steps failed."""
        return False

    def raise_if_failed(self) -> None:
        """Called before each execution of steps, to raise an error if one of the last failed."""

    def extra_logs(self) -> dict[str, Any]:
        """Called after each batch; what to log beside the metrics."""
        return {}


def install_between_batches() -> None:
    """Lets Keras' trainer call every `BetweenBatches` that it trains with."""
    trainer = next(cls for cls in keras.Model.__mro__ if "make_train_function" in vars(cls))
    wrap_once(trainer, "make_train_function", _calling_between_batches)


def _calling_between_batches(stock):
    def make_train_function(self, force=False):
        optimizer = optimizer_of(self)
        takes_part = isinstance(optimizer, BetweenBatches)
        if takes_part:
            _build(self)  # If this raises, no train function is left that lacks the wrapper.
        else:
            _refuse_searches_in(self.optimizer)
        made_before = self.train_function
        stock(self, force)
        if self.train_function is made_before or not takes_part:
            return
        optimizer.begin_training(self)
        wrap = _stateless if keras.backend.backend() == "jax" else _stateful
        self.train_function = wrap(self, optimizer, self.train_function)

    return make_train_function


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
    if model.optimizer.built or not model.built or not model.trainable_variables:
        return
    strategy = getattr(model, "distribute_strategy", None)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model.optimizer.build(model.trainable_variables)


def _stateful(model, optimizer, stock_train_function):
    def train_function(iterator):
        optimizer.raise_if_failed()
        return {**stock_train_function(iterator), **optimizer.extra_logs()}

    return train_function


def _stateless(model, optimizer, stock_train_function):
    """On JAX variables have no values while `fit` runs: its state has them."""

    def values_of(state):
        return substituted(zip(model.optimizer.variables, state[2]))

    def train_function(state, iterator):
        with values_of(state):
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
            _give_back(model, state)
            raise
        with values_of(state):
            return {**logs, **optimizer.extra_logs()}, state

    return train_function


def _give_back(model, state):
    parts = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    for variables, values in zip(parts, state):
        for variable, value in zip(variables, values):
            if not value.is_deleted():
                variable.assign(value)
