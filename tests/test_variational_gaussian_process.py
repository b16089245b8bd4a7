"""Gaussian processes of inducing points: the distribution, training, saving."""

import keras
import numpy as np
import pytest
from contract_support import check_config, saved_and_loaded
from keras import ops
from precision import ON_JAX
from probability import tfd, tfp
from tiers import quick

from keras_extras import layers

pytestmark = pytest.mark.both_backends(cases=1)

PLACES = keras.initializers.Constant(np.linspace(-1, 1, 8)[:, None])
X = np.linspace(-1, 1, 60, dtype="float32")[:, None]
Y = np.sin(4 * X) + 0.1 * np.random.default_rng(0).normal(size=X.shape).astype("float32")


def make_layer(**keywords):
    arguments = {
        "inducing_index_points_initializer": PLACES,
        "unconstrained_observation_noise_variance_initializer": keras.initializers.Constant(-3.0),
        **keywords,
    }
    return layers.VariationalGaussianProcess(8, layers.ExponentiatedQuadraticKernel(), **arguments)


def variational_loss(y, rv_y):
    return rv_y.variational_loss(y, kl_weight=20 / 60)


def test_it_is_the_process_of_tfp():
    layer = make_layer()
    rv = layer(X[:5])
    expected = tfd.VariationalGaussianProcess(
        layer.kernel_provider.kernel,
        X[:5],
        ops.convert_to_tensor(layer.inducing_index_points),
        ops.convert_to_tensor(layer.variational_inducing_observations_loc),
        ops.convert_to_tensor(layer.variational_inducing_observations_scale),
        mean_fn=lambda x: ops.zeros(1),
        observation_noise_variance=np.float32(np.log1p(np.exp(-3.0))),
        jitter=1e-6,
    )
    assert rv.event_shape == (5, 1)
    np.testing.assert_allclose(rv.mean(), ops.transpose(expected.mean()), rtol=1e-4, atol=1e-5)
    loss = rv.variational_loss(Y[:5], kl_weight=0.5)
    reference = expected.variational_loss(Y[:5].T, kl_weight=0.5)
    np.testing.assert_allclose(loss, reference, rtol=1e-3)
    divergence = rv.surrogate_posterior_kl_divergence_prior()
    np.testing.assert_allclose(
        divergence, expected.surrogate_posterior_kl_divergence_prior(), rtol=1e-3
    )


@pytest.mark.parametrize(
    "y", [Y, pytest.param(Y[:, 0], marks=pytest.mark.slow)], ids=["column", "flat"]
)
@pytest.mark.parametrize("jit_compile", ["auto"] if ON_JAX else quick([False, True], False))
def test_training(y, jit_compile):
    layer = make_layer(convert_to_tensor_fn="mean")
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(
        keras.optimizers.Adam(0.02), variational_loss, metrics=["mse"], jit_compile=jit_compile
    )
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    assert len(before) == 7
    history = model.fit(X, y, batch_size=20, epochs=100, verbose=0).history
    assert history["mse"][-1] < 0.05 < history["mse"][0]
    for variable in model.trainable_variables:
        assert np.abs(variable.numpy() - before[variable.path]).max() > 0, variable.path
    noise = np.log1p(np.exp(layer.unconstrained_observation_noise_variance.numpy()))
    assert 0.003 < noise < 0.1
    assert model(X).sample(3).shape == (3, 60, 1)


def test_several_processes_without_noise_and_with_a_mean():
    layer = make_layer(
        event_shape=(2,),
        inducing_index_points_initializer="random_uniform",
        mean_fn=mean_of_features,
        unconstrained_observation_noise_variance_initializer=None,
        variational_inducing_observations_scale_initializer="orthogonal",
        jitter=1e-4,
    )
    rv = layer(X[:5])
    assert rv.event_shape == (5, 2)
    assert np.isfinite(rv.mean()).all()
    assert {variable.name for variable in layer.weights} >= {"inducing_index_points"}
    assert "mean" not in {variable.name for variable in layer.weights}
    check_config(layer)


@keras.saving.register_keras_serializable(__name__)
def mean_of_features(x):
    return ops.sum(x, axis=-1)


def test_saving():
    model = keras.Sequential([keras.Input((1,)), make_layer(convert_to_tensor_fn="mean")])
    model.layers[-1].variational_inducing_observations_loc.assign_add(ops.ones((1, 8)))
    loaded = saved_and_loaded(model)
    np.testing.assert_allclose(
        loaded.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-4, atol=1e-5
    )
    check_config(make_layer())
    check_config(layers.ExponentiatedQuadraticKernel(2, keras.initializers.Constant(1.0)))


def test_kernel():
    provider = layers.ExponentiatedQuadraticKernel(
        amplitude_initializer=keras.initializers.Constant(1.0),
        length_scale_initializer=keras.initializers.Constant(-1.0),
    )
    amplitude, length_scale = np.log1p(np.exp(1.0)), np.log1p(np.exp(-1.0))
    x = np.array([[0.0], [0.3]], "float32")
    expected = amplitude**2 * np.exp(-0.5 * (x - x.T) ** 2 / length_scale**2)
    np.testing.assert_allclose(provider.kernel.matrix(x, x), expected, rtol=1e-5)
    assert provider(x) is not None
    assert provider.compute_output_shape((None, 1)) == (None, 1)


def test_wrong_arguments():
    for provider in (keras.layers.Dense(1), tfp.math.psd_kernels.ExponentiatedQuadratic()):
        with pytest.raises(TypeError, match="layer with a property `kernel`"):
            layers.VariationalGaussianProcess(3, provider)
    with pytest.raises(ValueError, match="`jitter` must be at least 0"):
        make_layer(jitter=-1.0)
