"""IVON: the paper's algorithm in NumPy, closed forms, and life in `fit`."""

import keras
import numpy as np
import pytest
from contract_support import saved_and_loaded
from keras import ops
from precision import ON_JAX

from keras_extras.inference import Posterior
from keras_extras.optimizers import IVON

pytestmark = pytest.mark.both_backends

_NOISE, _ROWS = 0.5, 200
_GENERATOR = np.random.default_rng(0)
_X = _GENERATOR.normal(size=(_ROWS, 3)) @ [[1.0, 0.3, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 1.5]]
_Y = _X @ [[1.0], [-2.0], [0.5]] + _NOISE * _GENERATOR.normal(size=(_ROWS, 1))
_X, _Y = _X.astype("float32"), _Y.astype("float32")


@keras.saving.register_keras_serializable(__name__)
def _loss(y, outputs):
    return ops.square(y - outputs) / (2 * _NOISE**2)


def _model(optimizer, *layers, loss=_loss, **arguments):
    layers = layers or (keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros"),)
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer, loss, **arguments)
    return model


def _fit(model, steps, batch_size=_ROWS, **arguments):
    """Trains on the same rows again and again, in one epoch that is known to have them all."""
    rows = np.arange(steps * batch_size) % _ROWS
    model.fit(
        _X[rows], _Y[rows], batch_size=batch_size, shuffle=False, verbose=0, epochs=1, **arguments
    )


def test_the_algorithm_of_the_paper(monkeypatch):
    """Algorithm 1 in NumPy, with the noise that was drawn."""
    ess, start, decay, b1, b2, rate, clip = 50.0, 0.5, 0.1, 0.8, 0.9, 0.3, 0.2
    draws = np.random.default_rng(3).normal(size=(6, 2, 3)).astype("float32")
    left = iter(draws.reshape(12, 3))
    optimizer = IVON(rate, ess, start, b1, b2, decay, num_samples=2, clip_radius=clip)
    monkeypatch.setattr(optimizer, "_normal_numbers", lambda: [ops.convert_to_tensor(next(left))])
    center = np.array([1.0, -2.0, 0.5])
    w = keras.Variable([0.0, 0.0, 0.0])
    m, v, h = np.zeros(3), np.zeros(3), np.full(3, start)
    for t, noise in enumerate(draws, 1):
        optimizer.minimize(lambda: ops.sum((w - center) ** 4), [w])
        e = noise / np.sqrt(ess * (h + decay))
        g = 4 * (m + e - center) ** 3
        f = np.mean(g * e, axis=0) * ess * (h + decay)
        v = b1 * v + (1 - b1) * g.mean(0)
        h = h + (1 - b2) * (f - h) + 0.5 * (1 - b2) ** 2 * (f - h) ** 2 / (h + decay)
        way = np.clip((v / (1 - b1**t) + decay * m) / (h + decay), -clip, clip)
        m = m - rate * (start + decay) * way
        np.testing.assert_allclose(w, m, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            optimizer.stddevs()[0], 1 / np.sqrt(ess * (h + decay)), rtol=1e-4
        )


def test_the_posterior_of_a_linear_model():
    """The best independent normal posterior has the diagonal of the exact precision."""
    optimizer = IVON(0.05, ess=_ROWS, beta_2=0.999, weight_decay=1 / _ROWS, num_samples=4, seed=1)
    model = _model(optimizer, steps_per_execution=50)
    _fit(model, 4000)
    precision = _X.T @ _X / _NOISE**2 + np.eye(3)
    mean = np.linalg.solve(precision, _X.T @ _Y / _NOISE**2)
    stddevs = 1 / np.sqrt(np.diag(precision))
    # Precisions are means over some 4,000 draws, each of which varies by some 200 %.
    np.testing.assert_allclose(optimizer.stddevs()[0][:, 0], stddevs, rtol=0.05)
    np.testing.assert_allclose(model.get_weights()[0][:, 0], mean[:, 0], atol=0.4 * stddevs.max())


def test_draws_of_the_posterior():
    optimizer = IVON(0.05, beta_2=0.99, seed=1)
    model = _model(optimizer)
    _fit(model, 20)
    one, same, other = (Posterior.from_optimizer(model, None, 4000, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.samples[0], same.samples[0])
    assert not np.array_equal(one.samples[0], other.samples[0])
    draws = one.samples[0][0]
    stddev = optimizer.stddevs()[0]
    # Five standard errors.
    np.testing.assert_allclose(draws.std(0), stddev, rtol=5 / np.sqrt(8000))
    error = np.abs(draws.mean(0) - model.get_weights()[0])
    assert np.all(error < 5 * stddev / np.sqrt(4000))
    assert Posterior.from_optimizer(model).num_results == 100


def test_numbers_of_large_models_are_standard_normal():
    """Windows of a table: each entry over many draws, and neighbors, as if drawn afresh."""
    optimizer = IVON(ess=1, seed=1)
    optimizer.build([keras.Variable(np.zeros((130, 130))), keras.Variable(np.zeros(4))])
    assert optimizer._table is not None
    drawn = np.array([ops.convert_to_numpy(optimizer._normal_numbers()[1]) for _ in range(2000)])
    assert np.all(np.abs(drawn.mean(0)) < 4 / np.sqrt(2000))
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(4), atol=4 * np.sqrt(2 / 2000))
    first = ops.convert_to_numpy(optimizer._normal_numbers()[0])
    assert first.shape == (130, 130)
    assert np.mean(first**2) == pytest.approx(1.0, abs=4 * np.sqrt(2 / first.size))


def _digits(optimizer, epochs):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype("float32")
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((64,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, steps_per_execution=16)
    model.fit(x[:512], y[:512], batch_size=32, epochs=epochs, verbose=0)
    return model, x[512:], y[512:]


def _accuracy(model, x, y, draws=None):
    """The accuracy of mean probabilities over draws of the weights."""
    probabilities = []
    for weights in draws or [model.get_weights()]:
        model.set_weights(weights)
        probabilities.append(ops.convert_to_numpy(ops.softmax(model.predict_on_batch(x))))
    return np.mean(np.mean(probabilities, axis=0).argmax(1) == y)


def test_a_classifier_of_digits():
    accuracy = _accuracy(*_digits(keras.optimizers.Adam(0.003), 60))
    optimizer = IVON(0.5, hess_init=0.1, beta_2=0.999, weight_decay=1e-3, seed=1)
    model, x, y = _digits(optimizer, 60)
    posterior = Posterior.from_optimizer(model, num_draws=30, seed=1)
    draws = [[values[0, n] for values in posterior.samples] for n in range(30)]
    assert _accuracy(model, x, y, draws) > accuracy - 0.03


def test_logs_are_of_the_step_itself():
    """One pass serves for gradient and logs, moving statistics and the seeds of layers."""
    calls = []

    class Counted(keras.layers.Layer):
        def call(self, inputs):
            calls.append(0)
            return inputs

    layers = [keras.layers.BatchNormalization(), Counted(), keras.layers.Dense(1)]
    model = _model(IVON(0.1, ess=1e12, seed=1), *layers, run_eagerly=not ON_JAX)
    before = model.get_weights()
    expected = float(np.mean(_loss(_Y, model(_X, training=True))))
    model.set_weights(before)
    del calls[:]
    history = model.fit(_X, _Y, batch_size=_ROWS, verbose=0).history
    assert history["loss"][0] == pytest.approx(expected, rel=1e-3)
    assert ON_JAX or len(calls) == 1
    np.testing.assert_allclose(model.layers[0].moving_mean, 0.01 * _X.mean(0), rtol=1e-3, atol=1e-6)


def test_training_goes_on_from_a_file():
    large = keras.layers.Dense(8000, activation="tanh"), keras.layers.Dense(1)  # with a table
    for layers in ((), large):
        model = _model(IVON(1e-3, beta_2=0.99, num_samples=2, seed=1), *layers)
        _fit(model, 3, 50)
        loaded = saved_and_loaded(model)
        for each in (model, loaded):
            _fit(each, 3, 50)
        np.testing.assert_equal(loaded.get_weights(), model.get_weights())
        np.testing.assert_equal(loaded.optimizer.stddevs(), model.optimizer.stddevs())


def test_several_steps_in_an_execution_are_the_same():
    found = []
    for count in (1, 3):
        model = _model(IVON(0.1, beta_2=0.9, seed=1), steps_per_execution=count)
        _fit(model, 6, 50)
        found.append((model.get_weights()[0], model.optimizer.stddevs()[0]))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_steps_compiled_by_xla():
    """Its random numbers are others, so means of many steps are compared."""
    model = _model(IVON(0.05, ess=_ROWS, beta_2=0.99, seed=1), jit_compile=True)
    _fit(model, 400)
    mean = np.linalg.lstsq(_X, _Y, rcond=None)[0]
    stddevs = _NOISE / np.sqrt(np.sum(_X**2, axis=0))
    np.testing.assert_allclose(model.optimizer.stddevs()[0][:, 0], stddevs, rtol=0.3)
    np.testing.assert_allclose(model.get_weights()[0], mean, atol=1.5 * stddevs.max())


def test_schedules_clipping_and_averages():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.1, 0.0])
    model = _model(IVON(schedule, seed=1))
    _fit(model, 4)
    before = model.get_weights()[0]
    _fit(model, 3)
    np.testing.assert_array_equal(model.get_weights()[0], before)
    clipped = _model(IVON(0.1, hess_init=1.0, weight_decay=1e-6, clipnorm=0.01, seed=1))
    _fit(clipped, 1)
    # The first step is one of SGD, but for what `h` has changed.
    assert np.linalg.norm(clipped.get_weights()[0]) == pytest.approx(0.1 * 0.01, rel=0.01)
    averaged = _model(IVON(0.1, use_ema=True, ema_momentum=0.5, seed=1))
    _fit(averaged, 5)
    assert np.isfinite(averaged.get_weights()[0]).all()


def test_the_number_of_rows_is_learned():
    model = _model(IVON(0.1))
    model.fit(_X, _Y, verbose=0)
    (size,) = [v for v in model.optimizer.variables if v.name == "training_set_size"]
    assert float(size.numpy()) == _ROWS
    model.fit(_X[:64], _Y[:64], verbose=0)
    assert float(size.numpy()) == 64


def test_an_unknown_number_of_rows_is_an_error():
    model = _model(IVON(0.1))
    with pytest.raises(ValueError, match="scales by the size of the training set"):
        model.train_on_batch(_X, _Y)
    with pytest.raises(ValueError, match="scales by the size of the training set"):
        model.fit(((_X, _Y) for _ in range(3)), shuffle=False, verbose=0)


def test_losses_that_are_not_finite_leave_the_posterior():
    model = _model(IVON(0.1, seed=1))
    _fit(model, 3)
    before = [v.numpy() for v in (*model.trainable_variables, *model.optimizer._precisions)]
    with pytest.raises(ValueError, match="left the posterior as it was"):
        model.fit(np.full_like(_X, np.nan), _Y, batch_size=100, verbose=0)
    after = [v.numpy() for v in (*model.trainable_variables, *model.optimizer._precisions)]
    np.testing.assert_equal(after, before)
    _fit(model, 3)
    assert np.isfinite(model.get_weights()[0]).all()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float16", "float64"])
def test_precision(policy):
    if ON_JAX and policy == "float64":
        pytest.skip("JAX computes in single precision by default")
    model = _model(IVON(0.01, seed=1), keras.layers.Dense(4, dtype=policy), keras.layers.Dense(1))
    _fit(model, 4)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    assert all(np.isfinite(part).all() and (part > 0).all() for part in optimizer.stddevs())


def test_gradients_of_embeddings_and_of_unused_weights():
    class Unused(keras.layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(2,), initializer="ones")

        def call(self, inputs):
            return inputs

    embedding = keras.layers.Embedding(10, 2)
    layers = [keras.Input((3,), dtype="int32"), embedding, keras.layers.Flatten(), Unused()]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile(IVON(0.01, seed=1), "mse")
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        model.fit(np.arange(30).reshape(10, 3) % 10, np.zeros((10, 1)), verbose=0)
    np.testing.assert_array_equal(model.layers[2].w, [1.0, 1.0])


def test_misuse():
    w = keras.Variable([1.0])
    with pytest.raises(ValueError, match="takes no gradients"):
        IVON(ess=10).apply_gradients([(ops.ones(1), w)])
    with pytest.raises(ValueError, match="has no posterior yet"):
        IVON().stddevs()
    with pytest.raises(ValueError, match="has a prior, by `weight_decay`, for all weights"):
        IVON().exclude_from_weight_decay(var_names=["bias"])
    bound = keras.Variable([1.0])
    bound.constraint = keras.constraints.NonNeg()
    with pytest.raises(ValueError, match="cannot keep a constraint"):
        IVON(ess=10).build([bound])
    optimizer = IVON(ess=10)
    optimizer.minimize(lambda: ops.sum(w**2), [w])
    with pytest.raises(ValueError, match="was built for other variables"):
        optimizer.minimize(lambda: ops.sum(w**2), [keras.Variable([1.0])])
    with pytest.raises(TypeError, match="an optimizer that learns a posterior"):
        Posterior.from_optimizer(_model("adam"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ess": 0}, "`ess` must be greater than 0"),
        ({"ess": "all"}, "`ess` must be a number or 'auto'"),
        ({"hess_init": 0.0}, "`hess_init` must be greater than 0"),
        ({"beta_1": 1.0}, "`beta_1` must be less than 1"),
        ({"beta_2": 1.0}, "`beta_2` must be less than 1"),
        ({"weight_decay": 0.0}, "`weight_decay` must be greater than 0"),
        ({"num_samples": 0}, "`num_samples` must be at least 1"),
        ({"clip_radius": 0.0}, "`clip_radius` must be greater than 0"),
        ({"gradient_accumulation_steps": 2}, "does not apply to IVON"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        IVON(**arguments)
