"""The divergence of a weight counts once a step, however its layer is called, in any precision."""

import keras
import numpy as np
import pytest
from precision import ON_JAX, needs_tensorflow
from probability import tf, tfd
from test_variational_layers import normal_kl
from tiers import UNCOMPILED, quick

from keras_extras import layers

pytestmark = pytest.mark.both_backends(cases=0)

_ROWS = np.random.default_rng(0).normal(size=(6, 5, 4)).astype("float32")


class Cell(keras.layers.Layer):
    """A recurrent cell with a Bayesian kernel."""

    def __init__(self, dense, **kwargs):
        super().__init__(**kwargs)
        self.dense = dense
        self.state_size = self.output_size = 3

    def build(self, input_shape):
        self.dense.build((None, input_shape[-1] + 3))

    def call(self, inputs, states, training=None):
        outputs = self.dense(keras.ops.concatenate([inputs, states[0]], -1), training=training)
        return outputs, [outputs]


def shared(layer):
    inputs = keras.Input((5, 4))
    return keras.Model(inputs, layer(inputs) + layer(inputs[:, ::-1]) + layer(2.0 * inputs))


def time_distributed(layer, steps=5):
    return keras.Sequential([keras.Input((steps, 4)), keras.layers.TimeDistributed(layer)])


def recurrent(layer, **options):
    return keras.Sequential([keras.Input((5, 4)), keras.layers.RNN(Cell(layer), **options)])


# Keras on JAX: random layers change the state of their generator, which a loop cannot.
_skip_loops = pytest.mark.skipif(ON_JAX, reason="Keras on JAX has no random layers in RNN's loop")
WAYS = {
    "shared": shared,
    "time distributed": time_distributed,
    "time distributed, any length": lambda layer: time_distributed(layer, None),
    "recurrent": recurrent,
    "recurrent, unrolled": lambda layer: recurrent(layer, unroll=True),
}


@pytest.mark.parametrize(
    "way", [pytest.param(w, marks=_skip_loops) if w == "recurrent" else w for w in WAYS]
)
@pytest.mark.parametrize("name", quick(["DenseFlipout", "DenseVariational"], "DenseFlipout"))
def test_a_layer_called_often_counts_its_divergence_once(name, way):
    options = {"kl_use_exact": True} if name == "DenseVariational" else {}
    layer = getattr(layers, name)(3, kl_weight=0.5, seed=1, activation="tanh", **options)
    model = WAYS[way](layer)
    weights = layer.trainable_variables[:2]
    loc, scale = np.asarray(weights[0]), np.logaddexp(0.0, np.asarray(weights[1]))
    expected = 0.5 * normal_kl(loc, scale, 0.0, 1.0)
    model.compile("sgd", loss=lambda y, y_pred: 0.0 * keras.ops.sum(y_pred), **UNCOMPILED)
    y = np.zeros((6, 1))
    np.testing.assert_allclose(model.evaluate(_ROWS, y, verbose=0), expected, rtol=1e-4)
    model.fit(_ROWS, y, epochs=2, verbose=0)
    assert not np.array_equal(loc, weights[0]), "The divergence has no gradient"


def test_estimates_of_a_layer_called_often_are_of_one_divergence():
    layer = layers.DenseReparameterization(3, kernel_prior_fn="scale_mixture", seed=1)
    model = shared(layer)
    once = keras.Sequential([keras.Input((5, 4)), layer])
    means = []
    for network in (once, model):
        values = []
        for _ in range(200):
            network(_ROWS)
            values.append(float(sum(network.losses)))
        means.append((np.mean(values), np.std(values) / np.sqrt(200)))
    difference = means[0][0] - means[1][0]
    assert abs(difference) < 4 * np.hypot(means[0][1], means[1][1])


def test_posteriors_of_inputs_count_the_mean_over_calls():
    def make_posterior(kernel_size, bias_size, dtype):
        return keras.Sequential(
            [
                layers.VariableLayer((2 * (kernel_size + bias_size),), dtype=dtype),
                layers.IndependentNormal(kernel_size + bias_size),
            ]
        )

    layer = layers.DenseVariational(3, make_posterior, kl_weight=1.0, kl_use_exact=True)
    layer(_ROWS)
    (once,) = map(float, layer.losses)
    model = shared(layer)
    for _ in range(2):
        model(_ROWS)
        assert float(sum(model.losses)) == pytest.approx(once, rel=1e-5)


def _kl_of(layer):
    loc, raw_scale = map(np.asarray, layer.weights[:2])
    return normal_kl(loc, np.logaddexp(0.0, raw_scale), 0.0, 1.0)


def test_a_frozen_variable_keeps_the_divergence():
    layer = layers.DenseReparameterization(3)
    layer(_ROWS)
    for frozen in ([0], [1], []):
        for number, variable in enumerate(layer.weights[:2]):
            variable.trainable = number not in frozen
        layer(_ROWS)
        np.testing.assert_allclose(list(map(float, layer.losses)), [_kl_of(layer)], rtol=1e-4)


@needs_tensorflow
def test_a_posterior_with_variables_of_another_owner_has_a_divergence():
    loc = tf.Variable(np.full((4, 3), 2.0, "float32"))

    def posterior_fn(dtype, shape, name, trainable, add_variable_fn):
        return tfd.Independent(tfd.Normal(loc, 1.0), 2)

    layer = layers.DenseReparameterization(3, kernel_posterior_fn=posterior_fn)
    model = shared(layer)
    for value in (2.0, 3.0):
        loc.assign(np.full((4, 3), value, "float32"))
        model(_ROWS)
        assert float(sum(model.losses)) == pytest.approx(12 * value**2 / 2, rel=1e-5)


@pytest.mark.parametrize(
    "way",
    ["time distributed, any length"]
    if ON_JAX
    else quick(["recurrent", "time distributed, any length"], "recurrent"),
)
def test_posteriors_by_layers_of_the_user_count_once_in_loops(way):
    def make_posterior(kernel_size, bias_size, dtype):
        size = kernel_size + bias_size
        parameters = layers.VariableLayer((2 * size,), dtype=dtype, initializer="ones")
        return keras.Sequential([parameters, layers.IndependentNormal(size)])

    layer = layers.DenseVariational(3, make_posterior, kl_weight=1.0, kl_use_exact=True)
    model = WAYS[way](layer)
    size = sum(variable.shape[0] for variable in layer.trainable_variables) // 2
    expected = normal_kl(np.ones(size), np.logaddexp(0.0, 1.0) * np.ones(size), 0.0, 1.0)
    model.compile("sgd", loss=lambda y, y_pred: 0.0 * keras.ops.sum(y_pred), **UNCOMPILED)
    y = np.zeros((6, 1))
    np.testing.assert_allclose(model.evaluate(_ROWS, y, verbose=0), expected, rtol=1e-3)
    model.fit(_ROWS, y, verbose=0)
    assert not np.allclose(layer.trainable_variables[0], 1.0), "The divergence has no gradient"


def test_a_learned_prior_moves_from_zero_in_an_eager_step():
    def made_of(initializer):
        def make(kernel_size, bias_size, dtype):
            size = kernel_size + bias_size
            parameters = layers.VariableLayer(2 * size, dtype, initializer=initializer)
            return keras.Sequential([parameters, layers.IndependentNormal(size)])

        return make

    layer = layers.DenseVariational(2, made_of("ones"), made_of("zeros"), 1.0, kl_use_exact=True)
    model = keras.Sequential([keras.Input((4,)), layer])
    loss = lambda y, y_pred: 0.0 * keras.ops.sum(y_pred)  # noqa: E731
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    model.fit(_ROWS[:, 0], np.zeros((6, 2)), verbose=0)
    loc = np.asarray(layer.prior.layers[0].constant)[:10]
    # The gradient of (1 - loc)^2 / (2 scale^2) at loc = 0, with a scale of softplus(0).
    np.testing.assert_allclose(loc, 0.1 / np.log(2.0) ** 2, rtol=1e-5)


_DENSE = ["DenseReparameterization", "DenseLocalReparameterization", "DenseFlipout"]


@pytest.mark.parametrize(
    "policy", quick(["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"], "mixed_bfloat16")
)
@pytest.mark.parametrize("name", [*_DENSE, "DenseVariational", "Convolution1DFlipout"])
def test_the_weight_of_the_divergence_is_right_in_half_precision(name, policy):
    keras.config.set_dtype_policy(policy)
    arguments = (3, 2) if "Convolution" in name else (3,)
    options = {"kl_use_exact": True} if name == "DenseVariational" else {}
    layer = getattr(layers, name)(*arguments, kl_weight="auto", seed=0, **options)
    # The divergence of so wide a kernel is beyond half precision.
    model = keras.Sequential([keras.Input((5, 4)), layer])
    layer.trainable_variables[0].assign(
        np.full(layer.trainable_variables[0].shape, 100.0, "float32")
    )
    loc, scale = (np.asarray(v, "float32") for v in layer.trainable_variables[:2])
    layer.training_set_size.assign(70_000.0)
    expected = normal_kl(loc, np.logaddexp(0.0, scale), 0.0, 1.0) / 70_000.0
    model(_ROWS)
    np.testing.assert_allclose(float(sum(model.losses)), expected, rtol=1e-4)

    model.compile("sgd", loss=lambda y, y_pred: 0.0 * keras.ops.sum(y_pred), **UNCOMPILED)
    model.fit(_ROWS, np.zeros((6, 1)), verbose=0)
    assert float(layer.training_set_size.value) == 6.0


@pytest.mark.parametrize("estimator", ["Flipout", "Reparameterization"])
def test_padding_and_data_format_in_any_case(estimator):
    cls = getattr(layers, f"Convolution2D{estimator}")
    layer = cls(2, 3, padding="SAME", data_format="CHANNELS_LAST")
    assert layer(np.zeros((1, 6, 6, 2), "float32")).shape == (1, 6, 6, 2)
    assert layer.get_config()["padding"] == "same"
    with pytest.raises(ValueError, match="`padding` must be one of 'valid', 'same'"):
        cls(2, 3, padding="FULL")
