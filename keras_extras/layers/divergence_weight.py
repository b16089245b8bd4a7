"""DivergenceWeight: the weight of a divergence, and the warm-up that raises it."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import check_number
from keras_extras._core.kl_share import add_share

_Schedule = keras.optimizers.schedules.LearningRateSchedule

# Of the docstrings of divergences.
WEIGHT = """
        weight: Multiplies the divergence: a number, a tensor, a `keras.Variable` or `tf.Variable`,
            read at each step, or a `keras.optimizers.schedules.LearningRateSchedule` of the
            training calls of the layer. On JAX a variable is a `keras.Variable` with
            `trainable=False`. `None` means 1. `KLWarmUp` multiplies all of them. Configurations
            keep the present value of a variable. Defaults to `None`.
    """


class DivergenceWeight(keras.layers.Layer):
    """A number, variable, tensor or schedule, times the share that `KLWarmUp` sets.

    It is a layer so that Keras finds, saves and restores the two variables.

    Args:
        weight: As `weight` of `KLDivergenceRegularizer`.
    """

    def __init__(self, weight: Any):
        super().__init__(name="divergence_weight", autocast=False)
        if isinstance(weight, dict):
            weight = keras.saving.deserialize_keras_object(weight)
        self._weight = _reader(weight)
        passed = _passed_to_programs(weight)
        self._passed = lambda: passed  # In a function, so that Keras does not save it.
        self.kl_warm_up = add_share(self)
        self._steps = None
        if isinstance(weight, _Schedule):
            self._steps = self.add_weight(
                name="steps", shape=(), initializer="zeros", dtype="int32", trainable=False
            )
        self.built = True

    @property
    def variables(self) -> list[keras.Variable]:
        # Programs of JAX see the values of variables that the model lists.
        return [*super().variables, *self._passed()]

    def advance(self, training: bool | None) -> None:
        """Counts a step of the schedule, if the call is one of training."""
        if training and self._steps is not None:
            self._steps.assign_add(1)

    def load_own_variables(self, store: Any) -> None:
        if len(store.keys()):  # Files of earlier versions hold none.
            super().load_own_variables(store)

    def times(self, values: Any) -> Any:
        """Returns the weighted values.

        Args:
            values: Tensor of divergences.
        """
        weight = self._weight()
        if self._steps is not None:
            # The call of a step counts it before its divergence is computed.
            weight = weight(ops.maximum(ops.convert_to_tensor(self._steps) - 1, 0))
        share = ops.cast(ops.convert_to_tensor(self.kl_warm_up), values.dtype)
        values = share * values
        return values if weight is None else ops.cast(weight, values.dtype) * values

    @property
    def config(self) -> Any:
        """The weight as it stands in configurations, variables by their values."""
        weight = self._weight()
        if isinstance(weight, _Schedule):
            return keras.saving.serialize_keras_object(weight)
        if weight is None or isinstance(weight, float):
            return weight
        return np.asarray(keras.ops.convert_to_numpy(weight)).tolist()


def _passed_to_programs(weight):
    """The variable that a compiled step must be given to read it, in a list."""
    if keras.backend.backend() == "tensorflow" or not hasattr(weight, "assign"):
        return []
    if not isinstance(weight, keras.Variable) or weight.trainable:
        raise ValueError(
            "`weight` as a variable must be a `keras.Variable` with `trainable=False` on JAX, so "
            f"that compiled steps read it and do not train it. Received: weight={weight!r}"
        )
    return [weight]


def _reader(weight: Any) -> Callable[[], Any]:
    """A function that returns the weight, so that Keras does not train a variable among it."""
    if weight is None or isinstance(weight, _Schedule):
        return lambda: weight
    if hasattr(weight, "assign"):
        return lambda: ops.convert_to_tensor(weight)
    if ops.is_tensor(weight):
        return lambda: weight
    if isinstance(weight, list | np.ndarray):
        values = np.asarray(weight)
        if values.dtype.kind not in "iuf" or not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(
                "`weight` must hold finite numbers that are not negative. "
                f"Received: weight={weight!r}"
            )
        return lambda: ops.convert_to_tensor(values, keras.config.floatx())
    number = check_number("weight", weight, at_least=0.0)
    return lambda: number
