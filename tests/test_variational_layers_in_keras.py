"""The life of layers with Bayesian weights in Keras: files, precision, replicas, tuning."""

import keras
import numpy as np
import pytest
from contract_support import policy, saved_and_loaded
from precision import needs_float64, needs_tensorflow
from probability import tfd
from scripts import output_of

from keras_extras import layers

pytestmark = pytest.mark.both_backends(cases=0)

_X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
_Y = _X[:, :1]


@keras.saving.register_keras_serializable(__name__)
def _loss(y, rv_y):
    return -rv_y.log_prob(y)


@keras.saving.register_keras_serializable(__name__)
def _wide_prior(dtype, shape, name, trainable, add_variable_fn):
    return tfd.Independent(tfd.Normal(keras.ops.zeros(shape, dtype), 3.0), len(shape))


@keras.saving.register_keras_serializable(__name__)
def _half_divergence(q, p, weight):
    return 0.5 * tfd.kl_divergence(q, p)


@keras.saving.register_keras_serializable(__name__)
def _make_posterior(kernel_size, bias_size, dtype=None):
    size = kernel_size + bias_size
    return keras.Sequential(
        [layers.VariableLayer(2 * size, dtype=dtype), layers.IndependentNormal(size)]
    )


@keras.saving.register_keras_serializable(__name__)
def _make_prior(kernel_size, bias_size, dtype=None):
    size = kernel_size + bias_size
    return keras.Sequential(
        [
            layers.VariableLayer(size, dtype=dtype),
            layers.DistributionLambda(_standard_around),
        ]
    )


@keras.saving.register_keras_serializable(__name__)
def _standard_around(loc):
    return tfd.Independent(tfd.Normal(loc, 1.0), 1)


def make_model(layer):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4,)), layer, keras.layers.Dense(2), layers.IndependentNormal(1)]
    )
    model.compile("adam", loss=_loss)
    return model


FUNCTIONS = {
    "names": lambda: layers.DenseFlipout(
        3, posterior="mean_field", prior="trainable", kl_weight="auto"
    ),
    "distributions": lambda: layers.DenseReparameterization(
        3, prior=tfd.StudentT(4.0, 0.0, 1.0), posterior="mean_field", kl_weight=0.1
    ),
    "default functions": lambda: layers.DenseFlipout(
        3,
        kernel_posterior_fn=layers.default_mean_field_normal_fn(
            loc_initializer="zeros", untransformed_scale_constraint=keras.constraints.MaxNorm(5.0)
        ),
        kernel_prior_fn=layers.default_multivariate_normal_fn,
        kl_weight=0.1,
    ),
    "registered functions": lambda: layers.DenseReparameterization(
        3, kernel_prior_fn=_wide_prior, kernel_divergence_fn=_half_divergence
    ),
    "models": lambda: layers.DenseVariational(3, _make_posterior, _make_prior, kl_weight=0.1),
}


@pytest.mark.parametrize("make", FUNCTIONS.values(), ids=FUNCTIONS)
def test_files_load_in_safe_mode(make):
    model = make_model(make())
    model.fit(_X, _Y, verbose=0)
    loaded = saved_and_loaded(model)
    for one, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    loaded.layers[0](_X)
    model.layers[0](_X)
    if "StudentT" not in str(model.layers[0].get_config()) and not isinstance(
        model.layers[0], layers.DenseVariational
    ):
        np.testing.assert_allclose(loaded.layers[0].losses[0], model.layers[0].losses[0])
    loaded.fit(_X, _Y, verbose=0)


def test_lambdas_load_knowingly(tmp_path):
    path = tmp_path / "model.keras"
    model = make_model(
        layers.DenseFlipout(3, kernel_divergence_fn=lambda q, p, _: tfd.kl_divergence(q, p) / 32)
    )
    model.fit(_X, _Y, verbose=0)
    with pytest.warns(UserWarning, match="is saved with a Python lambda"):
        model.save(path)
    with pytest.raises((ValueError, TypeError), match=r"safe_mode|lambda"):
        keras.saving.load_model(path)
    loaded = keras.saving.load_model(path, safe_mode=False)
    loaded.fit(_X, _Y, verbose=0)


def test_functions_as_in_tfp_layers():
    layer = layers.DenseReparameterization(
        3,
        kernel_posterior_tensor_fn=lambda d: d.mean(),
        kernel_divergence_fn=lambda q, p, _: tfd.kl_divergence(q, p) / 32.0,
        bias_posterior_fn=None,
    )
    np.testing.assert_array_equal(layer(_X), layer(_X))
    whole = tfd.kl_divergence(
        layer.kernel_posterior,
        layers.default_multivariate_normal_fn("float32", (4, 3), "kernel", True, None),
    )
    np.testing.assert_allclose(layer.losses[0], whole / 32.0, rtol=1e-5)
    layer = layers.DenseFlipout(3, kernel_prior_fn=None)
    layer(_X)
    assert layer.losses == []


@pytest.mark.parametrize("name", ["DenseReparameterization", "DenseFlipout", "DenseVariational"])
def test_seeds(name):
    cls = getattr(layers, name)
    outputs = []
    for seed in (3, 3, 4):
        keras.utils.set_random_seed(1)
        layer = cls(3, seed=seed)
        outputs.append((np.asarray(layer(_X)), np.asarray(layer(_X))))
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0][0], outputs[0][1]), "A second call draws the same"
    assert not np.array_equal(outputs[0][0], outputs[2][0]), "Another seed draws the same"


@pytest.mark.parametrize(
    "name", ["mixed_float16", "mixed_bfloat16", pytest.param("float64", marks=needs_float64)]
)
def test_divergences_have_the_precision_of_the_weights(name):
    with policy(name):
        layer = layers.DenseFlipout(3, kernel_posterior_fn="mean_field", dtype=name)
        layer.build((None, 4))
        outputs = layer(_X)
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
    assert keras.backend.standardize_dtype(layer.losses[0].dtype) == layer.variable_dtype
    np.testing.assert_allclose(
        float(layer.losses[0]),
        float(
            tfd.kl_divergence(
                layer.kernel_posterior,
                tfd.Independent(tfd.Normal(keras.ops.zeros((4, 3), layer.variable_dtype), 1.0), 2),
            )
        ),
        rtol=1e-4,
    )


def test_time_distributed_and_steps_per_execution():
    sequences = np.random.default_rng(0).normal(size=(16, 5, 4)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            keras.layers.TimeDistributed(layers.DenseFlipout(3, kl_weight="auto")),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse", steps_per_execution=3)
    history = model.fit(sequences, sequences[..., :1], batch_size=4, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    (size,) = [v for v in model.variables if v.name == "training_set_size"]
    assert float(size) == 16


def test_frozen_layers_do_not_train():
    layer = layers.DenseFlipout(3, trainable=False)
    model = make_model(layer)
    before = [np.asarray(weight) for weight in layer.weights]
    model.fit(_X, _Y, verbose=0)
    changed = [
        weight.name
        for weight, value in zip(layer.weights, before, strict=True)
        if not np.array_equal(weight, value)
    ]
    assert changed == []


def test_clones_have_no_state_in_common():
    model = make_model(layers.DenseFlipout(3, kl_weight="auto"))
    twin = keras.models.clone_model(model)
    twin.compile("adam", loss=_loss)
    twin.fit(_X[:8], _Y[:8], verbose=0)
    assert float(model.layers[0].training_set_size) == 0.0
    assert float(twin.layers[0].training_set_size) == 8.0


MIRRORED = """
import keras, numpy as np, tensorflow as tf
from keras_extras import layers
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
x = np.random.default_rng(1).normal(size=(64, 3)).astype("float32")

def train(strategy, kind):
    keras.utils.set_random_seed(3)
    with strategy.scope():
        # So narrow that the draws of replicas do not differ, and far from the prior.
        posterior = layers.default_mean_field_normal_fn(
            loc_initializer="zeros",
            untransformed_scale_initializer=keras.initializers.Constant(-10.0),
        )
        model = keras.Sequential([
            kind(2, kernel_posterior_fn=posterior, kl_weight="auto"), layers.IndependentNormal(1)
        ])
        model.compile(keras.optimizers.SGD(0.01), lambda y, rv_y: -rv_y.log_prob(y))
    return model.fit(x, x[:, :1], batch_size=16, epochs=3, shuffle=False, verbose=0).history["loss"]

for kind in (layers.DenseReparameterization, layers.DenseFlipout):
    one = train(tf.distribute.get_strategy(), kind)
    both = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), kind)
    np.testing.assert_allclose(one, both, rtol=1e-3)
print("equal")
"""


@needs_tensorflow
@pytest.mark.slow
def test_two_replicas_train_as_one():
    assert "equal" in output_of(MIRRORED)
