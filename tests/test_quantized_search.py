"""Integers of quantized layers, trained in stock `fit`."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_extras.optimizers import MonteCarloOptimizer, PartitionedOptimizer, QuantizedSearch
from keras_extras.optimizers.integer_weights import integer_weights

pytestmark = [
    pytest.mark.both_backends,
    # `Model.quantize` raises this warning for the input layer.
    pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize` method"),
]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 5)).astype("float32")
Y = (X @ RNG.normal(size=(5, 1)) > 0.0).astype("float32")
LOSS = keras.losses.BinaryCrossentropy(from_logits=True)


def make_model(mode="int4", hidden=5, **quantize):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(hidden, activation="relu", name="hidden"),
            keras.layers.Dense(1, name="last"),
        ]
    )
    if mode is not None:
        model.quantize(mode, **quantize)
    return model


def search(**arguments):
    return QuantizedSearch(**{"population_size": 16, "seed": 0, "vectorize": True, **arguments})


def fit(model, optimizer, epochs=1, **arguments):
    if optimizer is not None:
        model.compile(optimizer, LOSS, jit_compile=False)
    model.fit(X, Y, batch_size=32, epochs=epochs, shuffle=False, verbose=0, **arguments)
    return model


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_integers_learn_and_stay_on_the_grid(mode):
    model = make_model(mode)
    model.compile(search(), LOSS)
    before = model.evaluate(X, Y, verbose=0)
    floats = [ops.convert_to_numpy(layer.bias) for layer in model.layers]
    kernels = [ops.convert_to_numpy(layer.kernel) for layer in model.layers]
    scales = [ops.convert_to_numpy(layer.kernel_scale) for layer in model.layers]
    fit(model, None, epochs=60)
    assert model.evaluate(X, Y, verbose=0) < 0.9 * before
    assert any(np.any(k != ops.convert_to_numpy(m.kernel)) for k, m in zip(kernels, model.layers))
    for weight in integer_weights(model):
        weight.check()
        assert weight.variable.dtype == "int8"
    for old, layer in zip(floats, model.layers):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(layer.bias))
    for old, layer in zip(scales, model.layers):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(layer.kernel_scale))


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_embeddings_and_einsum_layers(mode):
    keras.utils.set_random_seed(0)
    embedding = keras.layers.Embedding(7, 6)
    einsum = keras.layers.EinsumDense("abc,cd->abd", output_shape=(4, 5), activation="tanh")
    model = keras.Sequential(
        [keras.Input((4,)), embedding, einsum, keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    for layer in (embedding, einsum):
        layer.quantize(mode)
    tokens = RNG.integers(7, size=(64, 4))
    targets = (tokens[:, :1] > 3).astype("float32")
    model.compile(search(learning_rate=0.3), LOSS, jit_compile=False)
    before = model.evaluate(tokens, targets, verbose=0)
    kernels = [ops.convert_to_numpy(w.variable) for w in integer_weights(model)]
    model.fit(tokens, targets, batch_size=32, epochs=15, verbose=0)
    assert model.evaluate(tokens, targets, verbose=0) < before
    for old, weight in zip(kernels, integer_weights(model), strict=True):
        weight.check()
        assert np.any(old != ops.convert_to_numpy(weight.variable))


def test_scales_learn_if_asked():
    model = make_model("int8")
    before = [ops.convert_to_numpy(layer.kernel_scale) for layer in model.layers]
    fit(model, search(scales=True))
    for old, layer in zip(before, model.layers):
        new = ops.convert_to_numpy(layer.kernel_scale)
        assert np.all(new > 0.0)
        assert np.any(new != old)


def test_patterns_choose_layers():
    model = make_model()
    before = [ops.convert_to_numpy(layer.kernel) for layer in model.layers]
    fit(model, search(weights=["hidden/kernel"], learning_rate=0.5), epochs=3)
    after = [ops.convert_to_numpy(layer.kernel) for layer in model.layers]
    assert np.any(before[0] != after[0])
    np.testing.assert_array_equal(before[1], after[1])


@pytest.mark.parametrize("hidden", [5, 6])
def test_packing_is_that_of_keras(hidden):
    """Odd and even numbers of rows share bytes as `pack_int4` does."""
    model = make_model("int4", hidden=hidden)
    for weight in integer_weights(model):
        integers = RNG.integers(-8, 8, size=weight.shape).astype("int8")
        packed, *_ = keras.quantizers.pack_int4(
            ops.convert_to_tensor(integers), axis=weight.packed_axis
        )
        stored = ops.convert_to_numpy(weight.stored(ops.convert_to_tensor(integers)))
        np.testing.assert_array_equal(stored, ops.convert_to_numpy(packed))
        weight.variable.assign(stored)
        np.testing.assert_array_equal(ops.convert_to_numpy(weight.integers()), integers)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_it_is_saved_and_goes_on_bit_for_bit(mode, tmp_path):
    whole = fit(make_model(mode), search(learning_rate=0.3), epochs=4)
    half = fit(make_model(mode), search(learning_rate=0.3), epochs=2)
    half.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), half.predict(X, verbose=0))
    fit(loaded, None, epochs=2)
    for one, other in zip(loaded.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))


def test_small_steps_are_not_lost_to_rounding():
    """A constant gradient moves integers by the sum of steps, each far below the grid."""
    model = make_model("int8")
    kernel = model.layers[1].kernel
    kernel.assign(np.zeros(kernel.shape, "int8"))
    model.layers[0].trainable = False
    optimizer = search(learning_rate=0.01, update_probability=1.0, weights=["last/kernel"])
    model.compile(optimizer, lambda y, out: -ops.mean(out), jit_compile=False)
    fit(model, None, epochs=20)
    moved = ops.convert_to_numpy(kernel)
    # Hidden units that are active raise the output: 40 updates of about 0.01 strides of 7.
    active = ops.convert_to_numpy(model.layers[0](X)).max(axis=0) > 0.0
    assert active.any()
    assert np.all(moved[active] > 0)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda: make_model(None), {}, "has no quantized layer"),
        (make_model, {"weights": ["nothing/*"]}, "must match the integers of a quantized layer"),
        (lambda: make_model("float8"), {}, r"cannot be searched: it is quantized to 'float8'"),
        (make_model, {"value_range": (-1, 1)}, r"must lie in \[-1, 1\].*integers from"),
    ],
    ids=["float", "pattern", "float8", "beyond"],
)
def test_models_that_cannot_be_searched(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        fit(make(), search(**arguments))


def test_a_pattern_of_a_float_layer_is_named():
    model = make_model(None)
    model.layers[0].quantize("int8")
    with pytest.raises(ValueError, match=r"last/kernel.*layers that are not quantized"):
        fit(model, search(weights=["last/kernel"]))
    fit(model, search())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"population_size": 3}, "`population_size` must be even"),
        ({"update_probability": 0.0}, "`update_probability` must be"),
        ({"value_range": (1, 1)}, "lowest and the highest integer"),
        ({"value_range": (-200, 1)}, "value_range"),
        ({"weight_decay": 0.1}, "`weight_decay` does not apply"),
        ({"use_ema": True}, "`use_ema` does not apply"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        search(**arguments)


def test_losses_that_are_nan_leave_the_integers():
    model = make_model()
    before = [ops.convert_to_numpy(w) for w in model.weights]
    x = np.full_like(X, np.nan)
    model.compile(search(), LOSS, jit_compile=False)
    with pytest.raises(Exception, match=r"(?i)nan|finite"):
        model.fit(x, Y, batch_size=64, verbose=0)
    for old, variable in zip(before, model.weights):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(variable))


def test_it_belongs_to_one_compiled_model():
    optimizer = search()
    fit(make_model(), optimizer)
    with pytest.raises(ValueError, match="was built for another model"):
        fit(make_model(), optimizer)
    weight = keras.Variable([1.0, 2.0])
    with pytest.raises(ValueError, match="trains the quantized layers of a model"):
        search().minimize(lambda: ops.sum(weight**2), [weight])
    parts = PartitionedOptimizer({"hidden/*": search(), "*": "sgd"})
    with pytest.raises(ValueError, match="trains the quantized layers of a model"):
        fit(make_model(None), parts)


def test_searches_of_floats_say_what_to_take():
    """A model whose weights are all integers has nothing that other optimizers could train."""
    model = make_model("int8")
    for layer in model.layers:
        layer.bias.trainable = False
    with pytest.raises(ValueError, match="QuantizedSearch"):
        fit(model, MonteCarloOptimizer())
