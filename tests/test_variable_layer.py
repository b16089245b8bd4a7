"""Variables as layers, initializers by blocks, and default parameters of weights."""

import keras
import numpy as np
import pytest
from contract_support import check_config, saved_and_loaded
from keras import ops
from precision import ON_JAX, WIDE, tolerance

from keras_extras import layers, losses
from keras_extras._core.probability import stateless_seed

pytestmark = pytest.mark.both_backends(cases=0)

NOTHING = np.zeros((1, 1), "float32")


def test_variable_layer():
    layer = layers.VariableLayer((2, 3), initializer="ones", activation="exponential")
    check_config(layer)
    for inputs in (ops.zeros(()), np.zeros((5, 7), "float32")):
        np.testing.assert_allclose(layer(inputs), np.full((2, 3), np.e), rtol=1e-6)
    assert layer(keras.Input((4,))).shape == (2, 3)
    assert layers.VariableLayer(3)(ops.zeros(())).shape == (3,)
    assert (
        keras.backend.standardize_dtype(layers.VariableLayer(3, dtype=WIDE)(ops.zeros(())).dtype)
        == WIDE
    )
    frozen = layers.VariableLayer(3, trainable=False)
    assert not frozen.trainable_variables
    for shape in ((2.5,), np.array(3.0)):
        with pytest.raises(TypeError, match="`shape` must be an integer"):
            layers.VariableLayer(shape)


def test_regularizer_and_constraint_of_the_variable():
    layer = layers.VariableLayer(2, initializer="ones", regularizer="l2", constraint="non_neg")
    assert float(layer.losses[0]) == pytest.approx(0.02)
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.SGD(10.0), lambda y, p: keras.ops.mean(p, keepdims=True))
    model.fit(np.zeros((2, 1)), np.zeros((2, 1)), verbose=0)
    np.testing.assert_array_equal(layer.constant.numpy(), [0.0, 0.0])


def test_one_distribution_is_fitted_and_saved():
    y = np.random.default_rng(0).normal(3.0, 2.0, size=(256, 2)).astype("float32")
    start = layers.BlockwiseInitializer(
        ["zeros", keras.initializers.Constant(np.log(np.expm1(1.0)))], sizes=[2, 2]
    )
    model = keras.Sequential(
        [layers.VariableLayer(4, initializer=start), layers.IndependentNormal((2,))]
    )
    np.testing.assert_allclose(model(NOTHING).stddev(), [1.0, 1.0], rtol=1e-5)
    model.compile(keras.optimizers.Adam(0.1), losses.NegativeLogLikelihood())
    batches = np.tile(y, (20, 1))
    model.fit(
        np.zeros((len(batches), 1)), batches, batch_size=256, epochs=15, shuffle=False, verbose=0
    )
    np.testing.assert_allclose(model(NOTHING).mean(), y.mean(axis=0), rtol=0.02)
    np.testing.assert_allclose(model(NOTHING).stddev(), y.std(axis=0), rtol=0.02)
    loaded = saved_and_loaded(model)
    np.testing.assert_array_equal(loaded(NOTHING).mean(), model(NOTHING).mean())


def test_blockwise_initializer():
    initializer = layers.BlockwiseInitializer(["zeros", "ones", "random_normal"], [1, 2, 3])
    check_config(initializer)
    value = np.asarray(initializer((4, 6), dtype="float32"))
    np.testing.assert_array_equal(value[:, :3], [[0.0, 1.0, 1.0]] * 4)
    assert value[:, 3:].std() > 0
    dense = keras.layers.Dense(6, kernel_initializer=initializer)
    dense.build((None, 2))
    np.testing.assert_array_equal(dense.kernel.numpy()[:, :3], [[0.0, 1.0, 1.0]] * 2)
    with pytest.raises(ValueError, match=r"`sizes` must sum to the length of the last axis, 5"):
        initializer((4, 5))
    with pytest.raises(TypeError, match="`initializers` must be a list"):
        layers.BlockwiseInitializer("zeros", [2])
    with pytest.raises(ValueError, match="one entry for each of `initializers`"):
        layers.BlockwiseInitializer(["zeros"], [1, 2])


class Noisy(keras.layers.Layer):
    """A layer whose kernel is drawn anew, by the protocol of the default functions."""

    def __init__(self, make):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(1)
        self.posterior = make("float32", (3, 2), "kernel", True, self.add_weight)

    def call(self, inputs):
        return ops.matmul(inputs, self.posterior.sample(seed=stateless_seed(self.seed_generator)))


@pytest.mark.parametrize("jit_compile", ["auto"] if ON_JAX else [False, True])
def test_default_posteriors_are_trained(jit_compile):
    layer = Noisy(layers.default_mean_field_normal_fn())
    names = [variable.name for variable in layer.trainable_variables]
    assert names == ["kernel_loc", "kernel_untransformed_scale"]
    assert layer.posterior.event_shape == (3, 2)
    np.testing.assert_allclose(layer.posterior.stddev(), np.full((3, 2), 0.05), rtol=0.4)
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=jit_compile)
    before = [variable.numpy() for variable in layer.trainable_variables]
    model.fit(np.ones((8, 3)), np.ones((8, 2)), epochs=3, verbose=0)
    for old, variable in zip(before, layer.trainable_variables):
        assert np.abs(variable.numpy() - old).min() > 0
    # Parameters follow their variables, also those that are set by hand.
    layer.trainable_variables[0].assign(np.ones((3, 2)))
    layer.trainable_variables[1].assign(np.zeros((3, 2)))
    np.testing.assert_array_equal(layer.posterior.mean(), np.ones((3, 2)))
    np.testing.assert_allclose(layer.posterior.stddev(), np.full((3, 2), np.log(2)), rtol=1e-5)


def test_default_functions_with_arguments():
    layer = keras.layers.Layer()
    make = layers.default_loc_scale_fn(
        loc_initializer="ones",
        untransformed_scale_initializer="zeros",
        loc_regularizer="l2",
        untransformed_scale_constraint="non_neg",
    )
    loc, scale = make(WIDE, (2,), "w", False, layer.add_weight)
    assert not layer.trainable_variables
    assert loc.dtype == WIDE
    np.testing.assert_array_equal(loc.numpy(), [1.0, 1.0])
    np.testing.assert_allclose(
        ops.convert_to_tensor(scale), [np.log(2)] * 2, rtol=tolerance(1e-7, 1e-6)
    )
    assert layer.non_trainable_variables[1].constraint is not None

    layer = keras.layers.Layer()
    point = layers.default_mean_field_normal_fn(is_singular=True, loc_initializer="ones")(
        np.float32, (2, 1), "w", True, layer.add_weight
    )
    np.testing.assert_array_equal(point.mean(), np.ones((2, 1)))
    assert len(layer.trainable_variables) == 1

    prior = layers.default_multivariate_normal_fn("float32", (2, 3), "w", True, None)
    assert prior.event_shape == (2, 3)
    assert float(prior.log_prob(ops.zeros((2, 3)))) == pytest.approx(-3 * np.log(2 * np.pi))


def test_an_output_stays_as_it_was():
    layer = layers.VariableLayer((2,), initializer="ones")
    output = layer(np.zeros(1))
    layer.constant.assign([5.0, 5.0])
    np.testing.assert_array_equal(np.asarray(output), [1.0, 1.0])


def test_mixed_precision_as_an_argument_is_that_of_the_symbolic_output():
    layer = layers.VariableLayer((2,), dtype="mixed_float16")
    symbolic = layer(keras.Input((3,)))
    assert keras.backend.standardize_dtype(layer(np.zeros((1, 3))).dtype) == symbolic.dtype
