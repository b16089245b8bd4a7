"""The seam of `fit` on JAX.

Keras' trainer passes on the values of all variables, as a state of four lists. Within a step they
are those of a `keras.StatelessScope`, which also takes up what is assigned. Keras builds losses by
tracing them, which those in NumPy do not allow, so how it builds a model is wrapped, too.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from keras_extras._core.stateless import substituted
from keras_extras._seams.symbolic_build import wrap_symbolic_build
from keras_extras._seams.train_state import pairs_of_state, variables_of_state
from keras_extras._seams.wrapped_methods import wrap_once


def install(
    trainer: Any, optimizer_of: Callable[[Any], Any], take_step: Callable[..., Any]
) -> None:
    """Wraps the methods of Keras' trainer, by the arguments of `install` for TensorFlow.

    There are no replicas here: `take_step` is a function of model, optimizer and data.
    """
    wrap_once(trainer, "train_step", lambda stock: _dispatching(stock, optimizer_of, take_step))
    wrap_symbolic_build(lambda stock: _building_without_values(stock, optimizer_of), __name__)


def _dispatching(stock_train_step, optimizer_of, take_step):
    import jax

    def train_step(self, state, data):
        optimizer = optimizer_of(self)
        if optimizer is None:
            return stock_train_step(self, state, data)
        is_compiled = self.jit_compile and not self.run_eagerly
        # Compiled by themselves, loops and branches would be compiled in each step.
        compiling = nullcontext() if is_compiled else jax.disable_jit()
        with compiling, substituted(pairs_of_state(self, state)) as scope:
            logs = take_step(self, optimizer, optimizer.placed_batch(data))
        return logs, tuple(
            [scope.get_current_value(v) for v in part] for part in variables_of_state(self)
        )

    return train_step


def _building_without_values(stock_symbolic_build, optimizer_of):
    import jax

    def symbolic_build(self, iterator=None, data_batch=None):
        try:
            stock_symbolic_build(self, iterator=iterator, data_batch=data_batch)
        except (jax.errors.JAXTypeError, jax.errors.JAXIndexError):
            optimizer = optimizer_of(self)
            if optimizer is None:
                raise
            if not self.run_eagerly:
                with optimizer.explained_errors():
                    raise
            # The losses were built before they were called; an eager step has values.
            stock_symbolic_build(self, iterator=iterator, data_batch=data_batch)

    return symbolic_build
