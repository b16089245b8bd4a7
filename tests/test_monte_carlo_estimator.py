"""The search step against closed forms and Keras' own Adam."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.optimize import nnls
from tiers import UNCOMPILED

from keras_extras.optimizers import MonteCarloOptimizer

HESSIAN = np.array([[3.0, 0.5, 0.0], [0.5, 2.0, -0.3], [0.0, -0.3, 1.0]], "float32")
SLOPE = np.array([1.0, -2.0, 0.5], "float32")


class EstimateOnly(MonteCarloOptimizer):
    """Keeps the estimates that a search would descend along."""

    def descend(self, gradients, variables=None):
        self.estimates = [np.array(ops.convert_to_tensor(g)) for g in gradients]


def quadratic(w):
    w = ops.convert_to_tensor(w)
    return 0.5 * ops.dot(w, ops.dot(HESSIAN, w)) + ops.dot(SLOPE, w)


@pytest.mark.parametrize("noise", ["orthogonal", "sign", "normal"])
@pytest.mark.parametrize("update_probability", [1.0, 0.3])
def test_the_estimate_is_an_unbiased_gradient(noise, update_probability):
    """For a quadratic loss the estimate's mean is the gradient, whatever sigma is."""
    w = keras.Variable([0.3, -0.2, 0.9])
    exact = HESSIAN @ w.numpy() + SLOPE
    optimizer = EstimateOnly(
        population_size=40_000,
        sigma=0.4,
        keep="current",
        noise=noise,
        update_probability=update_probability,
        seed=11,
    )
    optimizer.minimize(lambda: quadratic(w), [w])
    estimate = optimizer.estimates[0]
    # Each pair contributes e e^T g / p, of variance at most (|g|^2 E[e_i^4 / p ...]) / pairs.
    fourth_moment = 3.0 if noise == "normal" else 1.0
    spread = np.sqrt(fourth_moment * np.sum(exact**2) / update_probability / 20_000)
    z = (estimate - exact) / spread
    assert np.abs(z).max() < 4, f"z={z}, bound 4, seed 11"


def test_unusable_pairs_do_not_bias_the_estimate():
    """Pairs are left out by a rule that ignores their differences, so the mean stays."""
    w = keras.Variable([0.3, -0.2, 0.9])
    optimizer = EstimateOnly(population_size=40_000, sigma=0.4, noise="normal", seed=5)

    def loss_fn():
        return ops.where(ops.abs(w[2] - 0.9) > 0.6, float("nan"), quadratic(w))

    optimizer.minimize(loss_fn, [w])
    exact = HESSIAN @ w.numpy() + SLOPE
    np.testing.assert_allclose(optimizer.estimates[0][:2], exact[:2], atol=0.15)
    assert 0.1 < int(optimizer._nonfinite) / 40_000 < 0.2
    assert not bool(optimizer.failed)


def test_the_step_is_adams():
    gradients = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    ours, theirs = keras.Variable([1.0, 2.0, 3.0]), keras.Variable([1.0, 2.0, 3.0])
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.7)
    options = {"weight_decay": 0.01, "clipvalue": 1.5}
    adam = keras.optimizers.Adam(schedule, epsilon=1e-8, **options)
    optimizer = MonteCarloOptimizer(schedule, population_size=4, keep="current", **options)
    optimizer.build([ours])
    for gradient in gradients:
        adam.apply([ops.convert_to_tensor(gradient)], [theirs])
        optimizer.descend([ops.convert_to_tensor(gradient)], [ours])
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5)


def test_reaches_the_minimum_of_a_quadratic():
    import tensorflow as tf

    w = keras.Variable([2.0, 2.0, 2.0])
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 600, 1e-4)
    optimizer = MonteCarloOptimizer(schedule, population_size=16, seed=3)
    step = tf.function(lambda: optimizer.minimize(lambda: quadratic(w), [w]))
    for _ in range(600):
        step()
    np.testing.assert_allclose(w.numpy(), -np.linalg.solve(HESSIAN, SLOPE), atol=2e-3)


def test_moving_average_of_the_weights_is_kept_within_the_constraint():
    x = np.random.default_rng(1).normal(size=(64, 3)).astype("float32")
    y = x @ np.array([[1.0], [2.0], [-3.0]], "float32")
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(1, use_bias=False, name="head")]
    )
    optimizer = MonteCarloOptimizer(
        0.05,
        population_size=32,
        keep="current",
        use_ema=True,
        ema_momentum=0.9,
        transforms={"*": ops.abs},
        seed=0,
    )
    model.compile(optimizer, "mse", **UNCOMPILED)
    model.fit(x, y, batch_size=16, epochs=50, verbose=0)
    assert model.get_weights()[0].min() >= 0
    np.testing.assert_allclose(model.get_weights()[0][:, 0], nnls(x, y[:, 0])[0], atol=0.05)
