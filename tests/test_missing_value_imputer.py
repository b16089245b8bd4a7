import keras
import numpy as np
import pandas as pd
import pytest
from precision import ON_JAX, needs_tensorflow, tf

import keras_extras

pytestmark = pytest.mark.both_backends

NAN = np.nan
# Medians of what is there: 2, 6, 0.5. Means: 4, 6, 0.5.
DATA = np.array(
    [[1.0, 5.0, 0.5], [2.0, -999.0, NAN], [9.0, 7.0, -999.0], [NAN, 6.0, 0.5]], "float32"
)
MEDIANS = [2.0, 6.0, 0.5]
MEANS = [4.0, 6.0, 0.5]


def imputer(data=DATA, **arguments):
    layer = keras_extras.layers.MissingValueImputer(**arguments)
    layer.adapt(data)
    return layer


def statistics_of(layer):
    return np.asarray(layer.statistics).tolist()


@pytest.mark.parametrize(("strategy", "expected"), [("median", MEDIANS), ("mean", MEANS)])
def test_fills_in_the_statistic_of_what_is_there(strategy, expected):
    layer = imputer(strategy=strategy)
    assert statistics_of(layer) == expected
    filled = np.asarray(layer(np.array([[-999.0, NAN, 3.0], [0.0, -999.0, -999.0]], "float32")))
    np.testing.assert_array_equal(
        filled, [[expected[0], expected[1], 3.0], [0.0, expected[1], expected[2]]]
    )


def test_indicator_has_a_column_for_each_column():
    layer = imputer(add_indicator=True)
    outputs = np.asarray(layer(np.array([[-999.0, 3.0, NAN]], "float32")))
    np.testing.assert_array_equal(outputs, [[2.0, 3.0, 0.5, 1.0, 0.0, 1.0]])
    assert layer.compute_output_shape((None, 3)) == (None, 6)


def test_without_a_sentinel_only_nan_is_missing():
    layer = imputer(sentinel=None)
    assert statistics_of(layer) == [2.0, 5.5, 0.5]
    np.testing.assert_array_equal(
        np.asarray(layer(np.array([[-999.0, NAN, 1.0]], "float32"))), [[-999.0, 5.5, 1.0]]
    )


def tensorflow_batches(data, labels=False):
    if tf is None:
        pytest.skip("TensorFlow is not installed")
    return tf.data.Dataset.from_tensor_slices((data, data[:, 0]) if labels else data).batch(3)


def data_frame(data):
    return pd.DataFrame(data, columns=["mass", "energy", "angle"])


@pytest.mark.parametrize(
    "source",
    [
        np.asarray,
        lambda data: data.astype("float64"),
        lambda data: data.tolist(),
        lambda data: data.reshape(2, 2, 3),
        keras.ops.convert_to_tensor,
        tensorflow_batches,
        lambda data: tensorflow_batches(data, labels=True),
        lambda data: (batch for batch in np.split(data, 2)),
        data_frame,
        lambda data: data_frame(data).convert_dtypes(),
    ],
    ids=[
        "array",
        "float64",
        "list",
        "rank-3",
        "tensor",
        "dataset",
        "dataset-with-labels",
        "generator",
        "frame",
        "nullable-frame",
    ],
)
def test_adapts_to(source):
    assert statistics_of(imputer(source(DATA))) == MEDIANS


def test_integers_are_data_and_inputs():
    data = np.array([[1, -999], [2, 5], [4, 8]])
    layer = imputer(data)
    assert statistics_of(layer) == [2.0, 6.5]
    np.testing.assert_array_equal(
        np.asarray(layer(np.array([[-999, -999], [7, 8]], "int32"))), [[2.0, 6.5], [7.0, 8.0]]
    )


@pytest.mark.parametrize("policy", ["float32", "float16", "mixed_float16", "mixed_bfloat16"])
def test_sentinel_is_met_before_any_cast(policy):
    """-9999 is -10000 in float16 and bfloat16, and so is the value -10000, which is not missing."""
    data = np.array([[-9999.0], [1.0], [3.0]], "float32")
    layer = imputer(data, sentinel=-9999.0, dtype=policy)
    outputs = layer(np.array([[-9999.0], [-10000.0]], "float32"))
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
    outputs = np.asarray(keras.ops.cast(outputs, "float32"))[:, 0]
    np.testing.assert_allclose(outputs, [2.0, -10000.0], rtol=4e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sentinel_need_not_be_representable(dtype):
    layer = imputer(np.array([[-0.1], [1.0], [3.0]], dtype), sentinel=-0.1)
    np.testing.assert_array_equal(np.asarray(layer(np.array([[-0.1]], dtype))), [[2.0]])


def test_works_inside_models_and_adapts_before_or_after_they_are_built():
    layer = keras_extras.layers.MissingValueImputer()
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)))
    layer.adapt(DATA)
    same = keras.Sequential([imputer(), keras.layers.Dense(2)])
    same.build((None, 3))
    same.set_weights(model.get_weights())
    gaps = np.array([[NAN, -999.0, 1.0]], "float32")
    np.testing.assert_allclose(
        model.predict(gaps, verbose=0), same.predict(gaps, verbose=0), rtol=1e-6
    )
    assert [weight.name for weight in model.non_trainable_weights] == ["statistics"]


@needs_tensorflow
def test_works_in_a_tensorflow_pipeline():
    filled = np.concatenate(list(tensorflow_batches(DATA).map(imputer()).as_numpy_iterator()))
    np.testing.assert_array_equal(filled, [[1, 5, 0.5], [2, 6, 0.5], [9, 7, 0.5], [2, 6, 0.5]])


def test_saved_statistics_are_statistics(tmp_path):
    keras.Sequential([keras.Input((3,)), imputer(strategy="mean")]).save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_array_equal(
        loaded.predict(np.full((1, 3), -999.0, "float32"), verbose=0), [MEANS]
    )


def test_a_copy_with_the_weights_is_adapted():
    model = keras.Sequential([keras.Input((3,)), imputer()])
    gaps = np.full((2, 3), NAN, "float32")

    def copied():
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        return copy

    copy = copied()
    if ON_JAX:  # While it traces, the numbers are out of reach.
        with pytest.raises(ValueError, match=r"called directly, as in `model\(x\)`"):
            copied().predict(gaps, verbose=0)
        copy(gaps)
    np.testing.assert_array_equal(copy.predict(gaps, verbose=0), [MEDIANS, MEDIANS])


def test_adapting_again_replaces_the_statistics():
    layer = imputer()
    layer.adapt(np.full((4, 3), 2.0))
    assert statistics_of(layer) == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("reload", [False, True])
def test_data_before_adapt_is_an_error(reload, tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras_extras.layers.MissingValueImputer()])
    if reload:
        model.save(tmp_path / "m.keras")
        model = keras.saving.load_model(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"has no statistics yet. Call its `adapt\(data\)`"):
        model.predict(DATA, verbose=0)
    model.layers[0].adapt(DATA)
    np.testing.assert_array_equal(model.predict(DATA, verbose=0)[3], [2.0, 6.0, 0.5])


def test_a_column_without_any_value_is_named():
    empty = DATA.copy()
    empty[:, 1] = [-999.0, NAN, -999.0, NAN]
    with pytest.raises(ValueError, match=r"nothing but missing values in column \[1\]"):
        imputer(empty)
    with pytest.raises(ValueError, match=r"nothing but missing values in column \['energy'\]"):
        imputer(data_frame(empty))
    with pytest.raises(ValueError, match=r"in column \[0, 1, 2\]"):
        imputer(np.zeros((0, 3)))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (np.zeros(3), ValueError, r"shape \(rows, ..., columns\). Received: data of shape \(3,\)"),
        (np.zeros((4, 2)), ValueError, "as many columns as.*, 3. Received: data with 2"),
        (iter([]), ValueError, "at least one batch"),
        (7, TypeError, "an array, a tensor, a DataFrame or an iterable.*type int"),
        (np.array([["a", "b", "c"]]), TypeError, "numbers.*dtype <U1"),
    ],
)
def test_bad_data_explains_itself(data, error, message):
    layer = imputer()
    with pytest.raises(error, match=message):
        layer.adapt(data)
    assert statistics_of(layer) == MEDIANS


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"strategy": "mode"}, ValueError, "`strategy` must be one of 'median', 'mean'"),
        ({"sentinel": "NA"}, TypeError, "`sentinel` must be a number"),
        ({"sentinel": NAN}, ValueError, "`sentinel` must be finite"),
    ],
)
def test_bad_arguments_explain_themselves(arguments, error, message):
    with pytest.raises(error, match=message):
        keras_extras.layers.MissingValueImputer(**arguments)


def test_a_sentinel_of_single_precision_in_a_table():
    table = pd.DataFrame({"a": np.array([1.0, 2.0, -999.9, 3.0], "float32")})
    imputer = keras_extras.layers.MissingValueImputer(sentinel=-999.9, strategy="mean")
    imputer.adapt(table)
    np.testing.assert_allclose(imputer.statistics, [2.0])
