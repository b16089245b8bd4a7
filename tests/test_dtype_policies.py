"""Every layer, loss and metric in double and in half precision: same values, to its rounding."""

import contract_cases
import keras
import ml_dtypes
import numpy as np
import pytest
from contract_support import policy
from precision import needs_float64

pytestmark = pytest.mark.both_backends(cases=0)

# Of values of order 1; sums of many rows in half precision err more.
PRECISION = {"float64": 1e-5, "float16": 0.02, "bfloat16": 0.1}
DTYPES = ["float16", "bfloat16", pytest.param("float64", marks=needs_float64)]
FIRST = {type(case.make()).__name__: case for case in contract_cases.LAYERS}


def outputs_of(case, name):
    """What a layer returns under a policy, and whether it does so twice."""
    keras.utils.set_random_seed(0)
    with policy(name):
        layer = case.make()
        if not layer.built:
            layer.build(case.inputs.shape)
        for variable in layer.trainable_variables:
            draws = np.random.default_rng(1).normal(size=variable.shape)
            variable.assign(0.3 + 0.1 * draws.astype("float32"))
        inputs = case.inputs
        if inputs.dtype == "float32" and name == "float64":
            inputs = inputs.astype(name)
        one, other = layer(inputs), layer(inputs)
    values, again = (np.asarray(keras.ops.cast(v, "float32")) for v in (one, other))
    return keras.backend.standardize_dtype(one.dtype), values, np.array_equal(values, again)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FIRST)
def test_layers(name, dtype):
    case = FIRST[name]
    _, expected, is_fixed = outputs_of(case, "float32")
    actual_dtype, actual, _ = outputs_of(case, dtype)
    assert actual_dtype in ("float32" if case.keeps_float32 else dtype, "int32")
    assert np.all(np.isfinite(actual))
    if is_fixed:
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(actual, expected, atol=PRECISION[dtype] * scale)


def value_of(case, dtype):
    """What a loss or a metric makes of predictions in a precision."""
    with policy(dtype):
        y_pred = case.y_pred.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        y_pred = keras.ops.convert_to_tensor(y_pred) if case.head is None else case.head()(y_pred)
        return np.asarray(keras.ops.cast(case.make()(case.y_true, y_pred), "float32"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "case", [*contract_cases.LOSSES, *contract_cases.METRICS], ids=lambda case: case.name
)
def test_losses_and_metrics(case, dtype):
    expected = value_of(case, "float32")
    precision = PRECISION[dtype] * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(value_of(case, dtype), expected, atol=precision)
