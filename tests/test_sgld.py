"""Langevin dynamics in stock fit: what it samples, what it keeps."""

import keras
import numpy as np
import pytest
from contract_support import saved_and_loaded
from precision import ON_JAX, needs_tensorflow
from repeated_batch import fit_repeatedly
from tiers import UNCOMPILED, quick

from keras_extras.optimizers import SGLD, CyclicalSGLD

pytestmark = pytest.mark.both_backends(cases=1)

_NOISE = 0.5
_GENERATOR = np.random.default_rng(0)
_X = _GENERATOR.normal(size=(200, 3)).astype("float32")
_Y = (_X @ [[1.0], [-2.0], [0.5]] + _NOISE * _GENERATOR.normal(size=(200, 1))).astype("float32")


@keras.saving.register_keras_serializable(__name__)
def _loss(y, outputs):
    return keras.ops.square(y - outputs) / (2 * _NOISE**2)


def train(
    optimizer, steps, jit_compile=UNCOMPILED["jit_compile"], model=None, steps_per_execution=1
):
    """A linear model after so many steps on all data at once."""
    if model is None:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
        model.compile(
            optimizer, _loss, jit_compile=jit_compile, steps_per_execution=steps_per_execution
        )
    fit_repeatedly(model, _X, _Y, steps)
    return model


@pytest.mark.parametrize("jit_compile", ["auto"] if ON_JAX else quick([False, True], False))
def test_the_posterior_of_a_linear_model(jit_compile):
    optimizer = SGLD(
        0.01,
        training_set_size=200,
        prior_stddev=1.0,
        num_samples=3000,
        burnin_steps=500,
        thinning_steps=10,
        seed=1,
    )
    train(optimizer, 30_500, jit_compile, steps_per_execution=500)
    samples = optimizer.samples()[0][..., 0]
    assert samples.shape == (3000, 3)
    precision = _X.T @ _X / _NOISE**2 + np.eye(3)
    covariance = np.linalg.inv(precision)
    mean = covariance @ (_X.T @ _Y / _NOISE**2)[:, 0]
    # The draws are correlated over some ten steps, and the step size adds 2 % to the variance.
    np.testing.assert_allclose(samples.mean(0), mean, atol=0.1 * np.sqrt(covariance.max()))
    np.testing.assert_allclose(samples.var(0), np.diag(covariance), rtol=0.12)


def test_temperature_zero_is_sgd_with_the_prior_as_weight_decay():
    cold = train(SGLD(0.05, training_set_size=200, temperature=0.0, prior_stddev=0.5), 20)
    twin = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(
                1, use_bias=False, kernel_regularizer=keras.regularizers.L2(1 / (2 * 200 * 0.25))
            ),
        ]
    )
    keras.utils.set_random_seed(1)
    fresh = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    twin.set_weights(fresh.get_weights())
    twin.compile(keras.optimizers.SGD(0.05), _loss)
    train(None, 20, model=twin)
    np.testing.assert_allclose(cold.get_weights()[0], twin.get_weights()[0], rtol=1e-4)


def test_what_is_kept():
    kept = []
    optimizer = SGLD(
        0.01, training_set_size=200, num_samples=3, burnin_steps=4, thinning_steps=2, seed=1
    )
    model = train(optimizer, 1)
    for _ in range(12):
        train(None, 1, model=model)
        kept.append(model.get_weights()[0])
    # Steps 6, 8, 10 and 12 are kept, and of these the last three.
    np.testing.assert_array_equal(optimizer.samples()[0], [kept[step - 2] for step in (8, 10, 12)])


def test_samples_are_saved_and_collecting_goes_on():
    optimizer = SGLD(0.01, num_samples=5, thinning_steps=1, seed=1)
    model = train(optimizer, 3)
    loaded = saved_and_loaded(model)
    np.testing.assert_array_equal(loaded.optimizer.samples()[0], optimizer.samples()[0])
    train(None, 1, model=model)
    train(None, 1, model=loaded)
    np.testing.assert_array_equal(loaded.optimizer.samples()[0], optimizer.samples()[0])
    assert len(optimizer.samples()[0]) == 4


def test_the_size_of_the_training_set_is_learnt():
    optimizer = SGLD(0.01)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(optimizer, _loss)
    model.fit(_X, _Y, verbose=0)
    (size,) = [v for v in optimizer.variables if v.name == "training_set_size"]
    assert float(size) == 200
    model.fit(_X[:64], _Y[:64], verbose=0)
    assert float(size) == 64


def test_an_unknown_size_is_an_error():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(SGLD(0.01), _loss)
    with pytest.raises(ValueError, match="scales by the size of the training set"):
        model.train_on_batch(_X, _Y)


def test_mixed_precision_and_moving_averages():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, dtype="mixed_float16")])
    model.compile(keras.optimizers.LossScaleOptimizer(SGLD(0.01, thinning_steps=1)), _loss)
    model.fit(_X, _Y, verbose=0)
    assert np.isfinite(model.optimizer.inner_optimizer.samples()[0]).all()


def test_step_sizes_and_noise_of_cycles():
    optimizer = CyclicalSGLD(0.4, cycle_steps=10, exploration=0.6, thinning_steps=2)
    sizes, temperatures, collects = [], [], []
    for step in range(20):
        optimizer.iterations.assign(step)
        sizes.append(float(optimizer.step_size(0.4)))
        temperatures.append(float(optimizer.current_temperature()))
        collects.append(bool(optimizer.collects()))
    expected = 0.2 * (np.cos(np.pi * (np.arange(20) % 10) / 10) + 1.0)
    np.testing.assert_allclose(sizes, expected, rtol=1e-5)
    assert temperatures == ([0.0] * 6 + [1.0] * 4) * 2
    assert [step for step, kept in enumerate(collects) if kept] == [7, 9, 17, 19]


class _TwoValleys(keras.layers.Layer):
    """One weight w, and the loss (w^2 - 1)^2 / 2, with minima at -1 and 1."""

    def build(self, input_shape):
        self.w = self.add_weight(name="w", shape=(), initializer=keras.initializers.Constant(1.0))

    def call(self, inputs):
        return 0.5 * (self.w**2 - 1.0) ** 2 + 0.0 * inputs


def _valleys_of(optimizer, steps=4000):
    model = keras.Sequential([keras.Input((1,)), _TwoValleys()])
    model.compile(optimizer, lambda y, outputs: outputs, steps_per_execution=100)
    zeros = np.zeros((1, 1), "float32")
    fit_repeatedly(model, zeros, zeros, steps)
    return set(np.sign(optimizer.samples()[0]))


@pytest.mark.slow
def test_cycles_find_both_modes_where_small_steps_stay_in_one():
    """Step sizes near 0.9 make w jump between the valleys; SGD with them does not settle."""
    common = {"training_set_size": 16, "num_samples": 2000, "thinning_steps": 2, "seed": 3}
    assert _valleys_of(SGLD(0.002, **common)) == {1.0}
    cyclical = CyclicalSGLD(0.9, cycle_steps=200, exploration=0.5, **common)
    assert _valleys_of(cyclical) == {-1.0, 1.0}


@needs_tensorflow
def test_several_replicas_are_refused():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    optimizer = SGLD(0.01)
    with strategy.scope():
        optimizer.build([keras.Variable([1.0])])  # one replica is fine

    class Two:
        num_replicas_in_sync = 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.distribute, "get_strategy", lambda: Two())
        with pytest.raises(ValueError, match="one replica"):
            SGLD(0.01).build([keras.Variable([1.0])])


def test_other_backends_are_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ImportError, match="SGLD needs Keras' TensorFlow or JAX backend"):
        SGLD(0.01)


def test_no_samples_yet():
    with pytest.raises(ValueError, match="has collected no samples yet"):
        SGLD(0.01).samples()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGLD(training_set_size="all"), "must be an integer or 'auto'"),
        (lambda: SGLD(training_set_size=0), "`training_set_size` must be at least 1"),
        (lambda: SGLD(prior_stddev=0.0), "`prior_stddev` must be greater than 0"),
        (lambda: SGLD(temperature=-1.0), "`temperature` must be at least 0"),
        (lambda: SGLD(num_samples=0), "`num_samples` must be at least 1"),
        (lambda: SGLD(thinning_steps=0), "`thinning_steps` must be at least 1"),
        (lambda: CyclicalSGLD(exploration=1.0), "`exploration` must be less than 1"),
        (lambda: CyclicalSGLD(cycle_steps=0), "`cycle_steps` must be at least 1"),
        (lambda: CyclicalSGLD(cycle_steps=40), "leave 8 steps, and thinning_steps=10"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_samples_are_weights_that_the_model_had():
    """Not those of steps that only accumulate, nor such as the constraint takes back."""
    for jit_compile in ["auto"] if ON_JAX else [False, True]:
        optimizer = SGLD(0.01, thinning_steps=1, gradient_accumulation_steps=4, seed=1)
        positive = {"kernel_constraint": "non_neg", "kernel_initializer": "zeros"}
        dense = keras.layers.Dense(1, use_bias=False, **positive)
        model = keras.Sequential([keras.Input((3,)), dense])
        model.compile(optimizer, _loss, jit_compile=jit_compile)
        train(optimizer, 16, model=model)
        (samples,) = optimizer.samples()
        assert len(samples) == 4
        assert samples.min() == 0.0
        assert np.all(samples.any(axis=(1, 2)))
        np.testing.assert_array_equal(samples[-1], model.get_weights()[0])


def test_the_first_step_of_a_loop_is_a_sample_too():
    optimizer = SGLD(0.1, training_set_size=10, thinning_steps=1, seed=1)
    w = keras.Variable([1.0, 2.0])
    for _ in range(3):
        optimizer.apply([keras.ops.ones(2)], [w])
    assert optimizer.samples()[0].shape == (3, 2)


@pytest.mark.parametrize(
    ("optimizer", "first"),
    [
        (SGLD(0.01, 200, burnin_steps=3, thinning_steps=2), 5),
        (CyclicalSGLD(0.01, 10, training_set_size=200, thinning_steps=2), 10),
        (CyclicalSGLD(0.01, 10, training_set_size=200, thinning_steps=2, burnin_steps=10), 20),
    ],
)
def test_the_error_names_the_first_step_that_is_a_sample(optimizer, first):
    model = train(optimizer, first - 1)
    with pytest.raises(ValueError, match=f"train for at least {first} steps"):
        optimizer.samples()
    train(optimizer, 1, model=model)
    assert len(optimizer.samples()[0]) == 1


def test_noise_of_half_precision_and_many_rows():
    keras.config.set_dtype_policy("float16")
    weights = keras.layers.Dense(4000, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), weights])
    optimizer = SGLD(0.5, training_set_size=100_000, prior_stddev=1.0)
    model.compile(optimizer, lambda y, y_pred: 0.0 * keras.ops.sum(y_pred), **UNCOMPILED)
    model.fit(np.zeros((1, 1)), np.zeros((1, 1)), verbose=0)
    drawn = np.asarray(weights.kernel, "float64")
    # sqrt(2 learning_rate / n), 4 standard errors of 4,000 draws.
    assert np.std(drawn) == pytest.approx(np.sqrt(2 * 0.5 / 100_000), rel=4 / np.sqrt(8000))
