"""The checks of layers and optimizers pass what is sound and catch what is broken."""

import keras
import numpy as np
import pytest
from contract import LayerCase, OptimizerCase, check_layer, check_optimizer
from keras import ops

ROWS = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")

registered = keras.saving.register_keras_serializable(package="contract_battery")


class LeavesOut:
    """A configuration without one argument."""

    fault = "leaves out"
    argument: str

    def get_config(self):
        config = super().get_config()
        del config[self.argument]
        return config


# Layers


@registered
class SoundLayer(keras.layers.Layer):
    """Scales the columns."""

    def __init__(self, start=1.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start
        self.supports_masking = True

    def build(self, input_shape):
        initializer = keras.initializers.Constant(self.start)
        self.scale = self.add_weight(name="scale", shape=input_shape[-1:], initializer=initializer)

    def call(self, inputs):
        return self.scale * inputs

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "start": self.start}


@registered
class ForgetsAnArgument(LeavesOut, SoundLayer):
    argument = "start"


@registered
class WritesAnotherArgument(SoundLayer):
    fault = "another config"

    def get_config(self):
        return {**super().get_config(), "start": self.start + 1.0}


class IsNotRegistered(SoundLayer):
    fault = "Could not locate class"


@registered
class PromisesAnotherShape(SoundLayer):
    fault = "Symbolic shape"

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 1)


@registered
class PromisesAnotherDtype(SoundLayer):
    fault = "Symbolic float32"

    def call(self, inputs):
        return ops.cast(self.scale * inputs, "float64")


@registered
class IgnoresMixedPrecision(SoundLayer):
    fault = "outputs in float32"

    def call(self, inputs):
        return ops.cast(self.scale * inputs, "float32")


@registered
class OverflowsInHalf(SoundLayer):
    fault = "overflows"

    def call(self, inputs):
        return self.scale * inputs * 1e4 * 1e4 * 1e-8


@registered
class DoesNotSupportMasks(SoundLayer):
    fault = "supports_masking=False"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = False


@registered
class LosesTheMask(SoundLayer):
    fault = "mask does not come through"

    def compute_mask(self, inputs, previous_mask):
        return None


@registered
class InvertsTheMask(SoundLayer):
    fault = "Another mask"

    def compute_mask(self, inputs, previous_mask):
        return None if previous_mask is None else ops.logical_not(previous_mask)


@registered
class IgnoresTheSeed(SoundLayer):
    fault = "Equal seeds"

    def call(self, inputs):
        noise = np.random.default_rng().normal() if hasattr(inputs, "numpy") else 0.0
        return self.scale * inputs + noise


@registered
class DoesNotTrain(SoundLayer):
    fault = "does not train"

    def call(self, inputs):
        return ops.stop_gradient(self.scale) * inputs


@registered
class TrainsToNaN(SoundLayer):
    fault = "not finite"

    def call(self, inputs):
        return ops.sqrt(self.scale - ops.stop_gradient(self.scale)) + inputs


@registered
class SavesNothing(SoundLayer):
    fault = "computes something else"

    def save_own_variables(self, store):
        store["0"] = np.ones(3)


LAYER_FAULTS = [
    ForgetsAnArgument,
    WritesAnotherArgument,
    IsNotRegistered,
    PromisesAnotherShape,
    PromisesAnotherDtype,
    IgnoresMixedPrecision,
    OverflowsInHalf,
    DoesNotSupportMasks,
    LosesTheMask,
    InvertsTheMask,
    IgnoresTheSeed,
    DoesNotTrain,
    TrainsToNaN,
    SavesNothing,
]


def test_a_sound_layer_passes():
    check_layer(LayerCase("sound", lambda: SoundLayer(start=2.0), ROWS))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Keras itself warns of some faults.
@pytest.mark.parametrize("layer", LAYER_FAULTS)
def test_a_layer_fault_is_caught(layer):
    with pytest.raises((AssertionError, TypeError), match=layer.fault):
        check_layer(LayerCase("broken", layer, ROWS))


# Optimizers


@registered
class ForgetsItsMomentum(LeavesOut, keras.optimizers.SGD):
    argument = "momentum"


@registered
class Ascends(keras.optimizers.SGD):
    fault = "took the loss"

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(-gradient, variable, learning_rate)


@registered
class SavesNoState(keras.optimizers.SGD):
    fault = "another state"

    def save_own_variables(self, store):
        for number, variable in enumerate(self.variables):
            store[str(number)] = np.zeros(variable.shape)


@registered
class RemembersOutsideItsState(keras.optimizers.SGD):
    fault = "goes on differently"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        calls = keras.Variable(0.0)
        self.calls = lambda: calls  # Out of sight of Keras, which would save a variable it sees.

    def apply(self, grads, trainable_variables=None):
        self.calls().assign_add(1.0)
        super().apply([g / self.calls() for g in grads], trainable_variables)


@registered
class IgnoresItsSeed(keras.optimizers.SGD):
    fault = "Equal seeds"

    def update_step(self, gradient, variable, learning_rate):
        luck = 1.0 + 0.1 * np.random.default_rng().uniform()
        super().update_step(gradient * luck, variable, learning_rate)


@registered
class IgnoresSchedules(keras.optimizers.SGD):
    fault = "schedule"

    def __init__(self, learning_rate=0.01, **kwargs):
        super().__init__(learning_rate=0.01, **kwargs)
        self.schedule = learning_rate

    def get_config(self):
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {**super().get_config(), "learning_rate": schedule}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        schedule = keras.saving.deserialize_keras_object(config.pop("learning_rate"))
        return cls(learning_rate=schedule, **config)


OPTIMIZER_FAULTS = [
    ForgetsItsMomentum,
    Ascends,
    SavesNoState,
    RemembersOutsideItsState,
    IgnoresItsSeed,
    IgnoresSchedules,
]


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, keras.optimizers.Adam])
def test_a_sound_optimizer_passes(optimizer):
    check_optimizer(OptimizerCase("sound", optimizer))


@pytest.mark.parametrize("optimizer", OPTIMIZER_FAULTS)
def test_an_optimizer_fault_is_caught(optimizer):
    with pytest.raises(AssertionError, match=optimizer.fault):
        check_optimizer(OptimizerCase("broken", optimizer))
