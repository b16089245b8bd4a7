"""The Gaussian process of random features: its covariance, when it is current, and predictions."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from contract_support import policy, saved_and_loaded
from precision import needs_float64, needs_tensorflow

from keras_extras import constraints
from keras_extras.layers import RandomFeatureGaussianProcess

pytestmark = pytest.mark.both_backends

ROOT = Path(__file__).resolve().parents[1]
_X = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
_Y = _X[:, :1] - 0.5 * _X[:, 1:2] ** 2
_LABELS = (_X[:, 0] > 0.3).astype("int32") + (_X[:, 1] > 0.5)
_FAR = np.full((1, 3), 30.0, "float32")


def regression(epochs=2, compile_arguments=(), num_features=40, **arguments):
    arguments = {"prior_stddev": 2.0, "noise_stddev": 0.5, "seed": 1, **arguments}
    layer = RandomFeatureGaussianProcess(1, num_features, "gaussian", **arguments)
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile("adam", "mse", **dict(compile_arguments))
    if epochs:
        model.fit(_X, _Y, batch_size=16, epochs=epochs, verbose=0)
    return model, layer


def classifier(epochs=2, layer=None):
    layer = layer or RandomFeatureGaussianProcess(3, 40, seed=1)
    model = keras.Sequential([keras.Input((3,)), layer, keras.layers.Softmax()])
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    if epochs:
        model.fit(_X, _LABELS, batch_size=16, epochs=epochs, verbose=0)
    return model, layer


def features_of(layer, x):
    angles = x @ np.asarray(layer.random_weights, "float64") + np.asarray(layer.random_phases)
    return np.sqrt(2.0 / layer.num_features) * np.cos(angles)


def ridge(layer, x, curvature, prior_stddev):
    phi = features_of(layer, x)
    precision = np.eye(phi.shape[1]) / prior_stddev**2 + (phi.T * curvature) @ phi
    return np.linalg.inv(precision)


@pytest.mark.parametrize(
    "compile_arguments",
    [{}, {"steps_per_execution": 2}, {"jit_compile": True}],
    ids=["plain", "steps_per_execution", "jit_compile"],
)
def test_the_covariance_is_that_of_ridge_regression(compile_arguments):
    _, layer = regression(compile_arguments=compile_arguments)
    expected = ridge(layer, _X, 1 / 0.5**2, 2.0)
    np.testing.assert_allclose(layer.covariance(), expected, atol=1e-4)
    mean, variance = layer.mean_and_variance(_X)
    phi = features_of(layer, _X)
    np.testing.assert_allclose(mean, phi @ np.asarray(layer.kernel), atol=1e-4)
    np.testing.assert_allclose(variance, np.sum(phi @ expected * phi, axis=1), atol=1e-4)


def test_features_approximate_the_kernel():
    layer = RandomFeatureGaussianProcess(1, 20_000, length_scale=1.5, seed=1)
    layer.random_weights, layer.random_phases = random_parts(layer)
    phi = features_of(layer, _X)
    distances = np.sum((_X[:, None] - _X) ** 2, axis=-1)
    # Standard errors are at most 1 / sqrt(20,000) = 0.007.
    np.testing.assert_allclose(phi @ phi.T, np.exp(-distances / (2 * 1.5**2)), atol=0.035)


def random_parts(layer):
    """Those of a layer with few features would not do, and a covariance of many is large."""
    small = [RandomFeatureGaussianProcess(1, 200, length_scale=1.5, seed=n) for n in range(100)]
    for one in small:
        one.build((None, 3))
    weights = np.concatenate([np.asarray(one.random_weights) for one in small], axis=1)
    return weights, np.concatenate([np.asarray(one.random_phases) for one in small])


def test_trained_with_the_right_regularizer_the_mean_is_that_of_the_posterior():
    strength = 0.5**2 / (len(_X) * 2.0**2)
    model, layer = regression(epochs=0, kernel_regularizer=keras.regularizers.L2(strength))
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 1000)), "mse")
    rows = np.tile(_X, (1000, 1)), np.tile(_Y, (1000, 1))  # one row of batches, each of all data
    model.fit(*rows, batch_size=50, shuffle=False, verbose=0)
    phi = features_of(layer, _X)
    expected = phi @ ridge(layer, _X, 1 / 0.5**2, 2.0) @ phi.T @ _Y / 0.5**2
    np.testing.assert_allclose(model.predict(_X, verbose=0), expected, atol=0.01)


@pytest.mark.parametrize("likelihood", ["categorical", "binary_logistic"])
def test_the_curvature_and_the_mean_field_of_classes(likelihood):
    units = 3 if likelihood == "categorical" else 1
    initializer = keras.initializers.RandomNormal(2.0, seed=2)
    layer = RandomFeatureGaussianProcess(
        units, 40, likelihood, kernel_initializer=initializer, seed=1
    )
    layer(_X[:20], training=True)
    logits = np.asarray(layer(_X[20:], training=True), "float64")
    layer.end_epoch()
    logits = np.concatenate([features_of(layer, _X[:20]) @ np.asarray(layer.kernel), logits])
    if units == 1:
        p = 1 / (1 + np.exp(-logits[:, 0]))
    else:
        p = np.exp(logits).max(axis=1) / np.exp(logits).sum(axis=1)
    expected = ridge(layer, _X, p * (1 - p), 1.0)
    np.testing.assert_allclose(layer.covariance(), expected, atol=1e-4)
    phi = features_of(layer, _X)
    variance = np.sum(phi @ expected * phi, axis=1, keepdims=True)
    adjusted = logits / np.sqrt(1 + np.pi / 8 * variance)
    np.testing.assert_allclose(layer(_X), adjusted, atol=1e-4)


def test_far_from_the_data_the_variance_is_that_of_the_prior():
    _, layer = regression(num_features=400)
    near, far = (float(layer.mean_and_variance(x)[1][0]) for x in (_X[:1], _FAR))
    phi = features_of(layer, _FAR)
    assert far > 0.8 * 2.0**2 * np.sum(phi**2)
    assert near < 0.1 * far


def test_epochs_and_fits_start_anew():
    model, layer = regression(epochs=3)
    once = layer.covariance()
    model.fit(_X, _Y, batch_size=16, epochs=2, verbose=0)
    np.testing.assert_allclose(layer.covariance(), once, atol=1e-4)
    model.fit(_X[:20], _Y[:20], batch_size=16, verbose=0)
    expected = ridge(layer, _X[:20], 1 / 0.5**2, 2.0)
    np.testing.assert_allclose(layer.covariance(), expected, atol=1e-4)


def test_validation_and_callbacks_see_the_covariance_of_the_epoch():
    model, layer = classifier(epochs=0)
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((logs["val_loss"], self.model.evaluate(_X, _LABELS, verbose=0)))
            self.covariance = layer.covariance()

    look = Look()
    data = {"validation_data": (_X, _LABELS), "callbacks": [look]}
    model.fit(_X, _LABELS, epochs=2, verbose=0, **data)
    for of_validation, evaluated in seen:
        assert of_validation == pytest.approx(evaluated, rel=1e-5)
    np.testing.assert_array_equal(look.covariance, layer.covariance())


def test_the_covariance_is_computed_once_where_nothing_looks_at_it(monkeypatch):
    model, layer = regression(epochs=0)
    calls, end_epoch = [], layer.end_epoch
    monkeypatch.setattr(layer, "end_epoch", lambda: calls.append(end_epoch()))
    model.fit(_X, _Y, epochs=3, verbose=0)
    assert len(calls) == 1
    np.testing.assert_allclose(layer.covariance(), ridge(layer, _X, 4.0, 2.0), atol=1e-4)
    model.fit(_X, _Y, epochs=3, verbose=0, callbacks=[keras.callbacks.Callback()])
    assert len(calls) == 4


def test_a_list_of_callbacks_made_before():
    model, layer = regression(epochs=0)
    callbacks = keras.callbacks.CallbackList([keras.callbacks.History()], model=model)
    model.fit(_X, _Y, epochs=1, verbose=0, callbacks=callbacks)
    np.testing.assert_allclose(layer.covariance(), ridge(layer, _X, 4.0, 2.0), atol=1e-4)


def test_a_nested_model_that_is_built_in_fit():
    layer = RandomFeatureGaussianProcess(1, 40, "gaussian", seed=1)
    model = keras.Sequential([keras.Sequential([keras.layers.Identity(), layer])])
    model.compile("adam", "mse")
    model.fit(_X, _Y, epochs=2, verbose=0)
    np.testing.assert_allclose(layer.covariance(), ridge(layer, _X, 1.0, 1.0), atol=1e-4)


class Stop(keras.callbacks.Callback):
    """Ends training after the second batch, by an exception or as callbacks do."""

    def __init__(self, raises):
        super().__init__()
        self.raises = raises

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            if self.raises:
                raise KeyboardInterrupt
            self.model.stop_training = True


@pytest.mark.parametrize("raises", [True, False])
def test_after_an_interrupted_epoch_nothing_is_predicted(raises):
    model, layer = classifier()
    try:
        model.fit(_X, _LABELS, batch_size=16, verbose=0, callbacks=[Stop(raises)])
    except KeyboardInterrupt:
        assert raises
    for compute in (
        lambda: model.predict(_X, verbose=0),
        lambda: model.evaluate(_X, _LABELS, verbose=0),
        lambda: layer.mean_and_variance(_X),
        layer.covariance,
    ):
        with pytest.raises(ValueError, match=r"out of date.* 4 steps, and 2 steps"):
            compute()
    assert np.isnan(np.asarray(model(_X))).all()
    layer.end_epoch()
    assert np.isfinite(model.predict(_X, verbose=0)).all()


def test_early_stopping_is_no_interruption():
    model, layer = regression(epochs=0)
    stop = keras.callbacks.EarlyStopping("loss", min_delta=100.0, patience=0)
    history = model.fit(_X, _Y, epochs=9, verbose=0, callbacks=[stop])
    assert len(history.history["loss"]) < 9
    np.testing.assert_allclose(layer.covariance(), ridge(layer, _X, 4.0, 2.0), atol=1e-4)


def test_without_training_classes_have_no_covariance_and_regressions_a_mean():
    model, layer = classifier(epochs=0)
    assert np.isnan(np.asarray(model(_X))).all()
    with pytest.raises(ValueError, match="no covariance yet"):
        model.predict(_X, verbose=0)
    model, layer = regression(epochs=0)
    np.testing.assert_array_equal(model.predict(_X, verbose=0), 0.0)
    with pytest.raises(ValueError, match="no covariance yet"):
        layer.mean_and_variance(_X)
    with pytest.raises(ValueError, match="no weights yet"):
        RandomFeatureGaussianProcess(1).covariance()


def test_a_training_loop_of_ones_own():
    model, layer = regression(epochs=0)
    for _ in range(2):
        layer.begin_epoch()
        for first in range(0, 50, 10):
            model.train_on_batch(_X[first : first + 10], _Y[first : first + 10])
        layer.end_epoch()
    np.testing.assert_allclose(layer.covariance(), ridge(layer, _X, 4.0, 2.0), atol=1e-4)


def test_momentum_is_a_moving_average_of_rows_times_their_number():
    model, layer = regression(epochs=0, momentum=0.8)
    model.fit(_X[:48], _Y[:48], batch_size=16, epochs=2, shuffle=False, verbose=0)
    weights = 0.8 ** np.arange(5, -1, -1)
    of_rows = np.repeat(weights.reshape(2, 3).sum(0) / weights.sum() / 16, 16)
    expected = ridge(layer, _X[:48], 48 * of_rows / 0.5**2, 2.0)
    np.testing.assert_allclose(layer.covariance(), expected, atol=1e-4)
    model.train_on_batch(_X[:16], _Y[:16])
    with pytest.raises(ValueError, match="out of date"):
        layer.covariance()


def test_momentum_needs_the_number_of_rows():
    model, layer = regression(epochs=0, momentum=0.9)
    model.train_on_batch(_X, _Y)
    for call in (layer.begin_epoch, layer.end_epoch):
        with pytest.raises(ValueError, match="size of the training set, which is unknown"):
            call()


def test_training_that_diverges_gives_nan():
    model, _ = classifier()
    bad = np.where(np.arange(50)[:, None] == 3, np.nan, _X)
    model.fit(bad, _LABELS, verbose=0)
    assert np.isnan(model.predict(_X, verbose=0)).all()


def test_files_hold_the_covariance():
    model, layer = classifier()
    loaded = saved_and_loaded(model)
    expected = model.predict(_X, verbose=0)
    np.testing.assert_allclose(loaded.predict(_X, verbose=0), expected, rtol=1e-5)
    np.testing.assert_array_equal(loaded.layers[0].covariance(), layer.covariance())


@pytest.mark.parametrize(
    "name",
    ["mixed_float16", "mixed_bfloat16", "float16", pytest.param("float64", marks=needs_float64)],
)
def test_covariances_are_at_least_in_single_precision(name):
    with policy(name):
        layer = RandomFeatureGaussianProcess(3, 40, seed=1)
        outputs = layer(_X, training=True)
    layer.end_epoch()
    assert layer.precision.dtype == ("float64" if name == "float64" else "float32")
    expected = name.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(outputs.dtype) == expected
    np.testing.assert_allclose(layer.covariance(), ridge(layer, _X, 2 / 9, 1.0), atol=1e-4)


def test_no_gradient_comes_from_the_sums():
    model, _ = classifier(epochs=1)
    assert len(model.trainable_variables) == 1
    history = model.fit(_X, _LABELS, epochs=10, verbose=0)
    assert history.history["loss"][-1] < 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "`units` must be at least 1"),
        ({"num_features": 0}, "`num_features` must be at least 1"),
        ({"likelihood": "poisson"}, "`likelihood` must be one of"),
        ({"likelihood": "binary_logistic"}, "`units` must be 1"),
        ({"length_scale": 0.0}, "`length_scale` must be greater than 0"),
        ({"prior_stddev": -1.0}, "`prior_stddev` must be greater than 0"),
        ({"noise_stddev": np.inf}, "`noise_stddev` must be"),
        ({"momentum": 1.0}, r"`momentum` must be -1 or lie in \[0, 1\)"),
        ({"momentum": -0.5}, r"`momentum` must be -1 or lie in \[0, 1\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomFeatureGaussianProcess(**{"units": 2, **arguments})


def test_images_are_refused():
    with pytest.raises(ValueError, match="ndim"):
        RandomFeatureGaussianProcess(2)(np.zeros((2, 3, 3)))


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (3, 3, 4, 6)])
def test_kernels_of_a_greater_spectral_norm_are_scaled_to_the_bound(shape):
    kernel = np.random.default_rng(1).normal(size=shape).astype("float32")
    matrix = kernel.reshape(-1, shape[-1])
    norm = np.linalg.norm(matrix, 2)
    bounded = np.asarray(constraints.SpectralNorm(0.9, power_iterations=50)(kernel))
    np.testing.assert_allclose(bounded, kernel * 0.9 / norm, rtol=1e-3)
    np.testing.assert_array_equal(constraints.SpectralNorm(1.1 * norm)(kernel), kernel)
    np.testing.assert_array_equal(constraints.SpectralNorm()(0.0 * kernel), 0.0 * kernel)


def test_training_keeps_the_bound():
    constraint = constraints.SpectralNorm(0.9)
    hidden = keras.layers.Dense(32, "relu", kernel_constraint=constraint)
    model = keras.Sequential([keras.Input((3,)), hidden, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.fit(_X, 10 * _Y, epochs=10, verbose=0)
    norm = np.linalg.norm(np.asarray(hidden.kernel), 2)
    assert 0.88 < norm < 0.91
    loaded = saved_and_loaded(model).layers[0].kernel_constraint
    assert loaded.get_config() == constraint.get_config()


def test_vectors_have_no_spectral_norm():
    with pytest.raises(ValueError, match="at least two axes"):
        constraints.SpectralNorm()(np.ones(3))


REPLICAS = """
import keras, numpy as np, tensorflow as tf
from keras_extras.layers import RandomFeatureGaussianProcess

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
for momentum in (-1, 0.5):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        layer = RandomFeatureGaussianProcess(1, 20, "gaussian", momentum=momentum, seed=1)
        model = keras.Sequential([keras.Input((3,)), layer])
        model.compile("adam", "mse")
    model.fit(x, x[:, :1], batch_size=20, epochs=2, shuffle=False, verbose=0)
    angles = x @ np.asarray(layer.random_weights) + np.asarray(layer.random_phases)
    phi = np.sqrt(0.1) * np.cos(angles)
    weights = np.repeat([1, 1] if momentum < 0 else [10 / 15, 20 / 15], 20)
    expected = np.linalg.inv(np.eye(20) + (phi.T * weights) @ phi)
    np.testing.assert_allclose(layer.covariance(), expected, atol=1e-4)
print("right")
"""


@pytest.mark.slow
@needs_tensorflow
def test_replicas_add_up():
    process = subprocess.run(
        [sys.executable, "-c", REPLICAS], capture_output=True, text=True, cwd=ROOT
    )
    assert process.stdout.endswith("right\n"), process.stderr[-3000:]
