"""What of the seam to `fit` is JAX's own.

Keras' trainer passes on the values of all variables, as a state of four lists. Within a step they
are those of a `keras.StatelessScope`, which also takes up what is assigned.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from keras_extras._core.stateless import substituted
from keras_extras._core.wrapped_methods import wrap_once
from keras_extras.optimizers.devices import on_all_devices


def install(
    trainer: Any, optimizer_of: Callable[[Any], Any], take_step: Callable[..., Any]
) -> None:
    """Wraps the methods of Keras' trainer.

    Args:
        trainer: The class that has them.
        optimizer_of: Function from a model to the optimizer that takes its steps, or `None`.
        take_step: Function of model, optimizer and data that takes a step and returns its logs.
    """
    wrap_once(trainer, "train_step", lambda stock: _dispatching(stock, optimizer_of, take_step))
    wrap_once(
        trainer,
        "_symbolic_build",
        lambda stock: _building_without_values(stock, optimizer_of),
    )


def _dispatching(stock_train_step, optimizer_of, take_step):
    import jax

    def train_step(self, state, data):
        optimizer = optimizer_of(self)
        if optimizer is None:
            return stock_train_step(self, state, data)
        variables = [
            self.trainable_variables,
            self.non_trainable_variables,
            self.optimizer.variables,
            self.metrics_variables,
        ]
        pairs = [pair for lists in zip(variables, state) for pair in zip(*lists, strict=True)]
        is_compiled = self.jit_compile and not self.run_eagerly
        # Compiled by themselves, loops and branches would be compiled anew in each step.
        compiling = nullcontext() if is_compiled else jax.disable_jit()
        with compiling, substituted(pairs) as scope:
            if getattr(optimizer, "shard", "batch") == "population":
                data = on_all_devices(data)
            logs = take_step(self, optimizer, data)
        return logs, tuple([scope.get_current_value(v) for v in part] for part in variables)

    return train_step


def _building_without_values(stock_symbolic_build, optimizer_of):
    """Keras builds losses by tracing them, which those in NumPy do not allow."""
    import jax

    def symbolic_build(self, iterator=None, data_batch=None):
        try:
            stock_symbolic_build(self, iterator=iterator, data_batch=data_batch)
        except (jax.errors.JAXTypeError, jax.errors.JAXIndexError):
            optimizer = optimizer_of(self)
            if optimizer is None:
                raise
            if not self.run_eagerly:
                candidate_map = getattr(optimizer, "candidate_map", None)
                with candidate_map.naming_the_way_out() if candidate_map else nullcontext():
                    raise
            # The losses were built before they were called; an eager step has values.
            stock_symbolic_build(self, iterator=iterator, data_batch=data_batch)

    return symbolic_build
