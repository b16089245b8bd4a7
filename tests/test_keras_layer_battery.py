"""Keras' own battery for layers, from its tests, on the layers of the package."""

import keras
import numpy as np
import pytest
from contract import LayerCase
from contract_cases import LAYERS
from keras.src import testing
from tiers import quick

from keras_extras import layers

_ROWS = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")

CASES = [
    # The battery builds layers again that `adapt` has built.
    *(case for case in LAYERS if not hasattr(case.make(), "adapt")),
    LayerCase("VariableLayer", lambda: layers.VariableLayer((3,)), _ROWS),
    LayerCase(
        "VariationalGaussianProcess",
        lambda: layers.VariationalGaussianProcess(4, layers.ExponentiatedQuadraticKernel()),
        _ROWS,
    ),
]

# Under `dtype="mixed_float16"` these compute in single precision or not at all.
_OF_SINGLE_PRECISION = ("MixtureSameFamily", "VariableLayer", "VariationalGaussianProcess")


# The battery trains on a generator, and layers without weights, too.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
@pytest.mark.parametrize("trains", quick([False, True], False), ids=["called", "trained"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_battery_of_keras(case, trains):
    layer = case.make()
    config = layer.get_config()
    del config["name"]
    built = case.make()
    built(case.inputs)
    testing.TestCase("run_layer_test").run_layer_test(
        lambda **arguments: type(layer).from_config({**config, **arguments}),
        {},
        input_data=keras.ops.convert_to_tensor(case.inputs),
        expected_output_shape=built.compute_output_shape(case.inputs.shape),
        supports_masking=layer.supports_masking,
        run_training_check=trains,
        run_mixed_precision_check=case.name not in _OF_SINGLE_PRECISION,
    )
