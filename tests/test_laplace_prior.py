"""The prior of a Laplace approximation, by held-out rows."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from keras_extras import layers
from keras_extras.inference import LaplaceApproximation
from keras_extras.inference.prior_scale import scale_of_least_loss

tfd = tfp.distributions

NOISE = 0.5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
Y = (X @ [[1.0], [-2.0], [0.5]] + NOISE * RNG.normal(size=(40, 1))).astype("float32")
HELD_OUT = RNG.normal(size=(30, 3)).astype("float32")
TARGETS = (HELD_OUT @ [[1.0], [-2.0], [0.5]] + NOISE * RNG.normal(size=(30, 1))).astype("float32")


def noise(outputs):
    return tfd.Independent(tfd.Normal(outputs, NOISE), 1)


def linear(kernel):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign(kernel)
    return model


def fitted(**arguments):
    model = linear(np.linalg.lstsq(X[:6], Y[:6])[0])
    return LaplaceApproximation(model, X[:6], Y[:6], likelihood=noise, **arguments)


def exact_loss(laplace, stddev):
    """The closed form of held-out rows with all draws of the weights."""
    inputs = X[:6].astype("float64")
    covariance = np.linalg.inv(inputs.T @ inputs / NOISE**2 + np.eye(3) / stddev**2)
    variance = NOISE**2 + np.einsum("ni,ij,nj->n", HELD_OUT, covariance, HELD_OUT)
    errors = (TARGETS - HELD_OUT @ laplace.mode[0])[:, 0]
    return 0.5 * float(np.mean(np.log(2.0 * np.pi * variance) + errors**2 / variance))


@pytest.mark.parametrize("structure", ["full", "kron"])
def test_the_prior_of_the_least_loss_of_held_out_rows(structure):
    laplace = fitted(hessian_structure=structure)
    found = laplace.optimize_prior_stddev(
        validation_data=(HELD_OUT, TARGETS), num_samples=2000, seed=0
    )
    assert found == laplace.prior_stddev
    losses = [exact_loss(laplace, stddev) for stddev in 10.0 ** np.linspace(-3, 1, 400)]
    assert exact_loss(laplace, found) < min(losses) + 0.02


@pytest.mark.parametrize("structure", ["full", "kron", "diag"])
def test_rows_that_the_network_predicts_best_alone(structure):
    """Targets that are its means: any variance is too much, and none is left."""
    laplace = fitted(hessian_structure=structure)
    exact = HELD_OUT @ laplace.mode[0]
    assert laplace.optimize_prior_stddev(validation_data=(HELD_OUT, exact), seed=0) == 0.0
    prediction = laplace.predict_distribution(HELD_OUT, num_samples=3, seed=0)
    np.testing.assert_allclose(prediction.mean(), exact, rtol=1e-5)
    np.testing.assert_allclose(prediction.stddev(), NOISE, rtol=1e-5)
    assert not np.any(laplace.stddev()[0])
    assert laplace.log_marginal_likelihood() == -np.inf
    laplace.prior_stddev = 1.0
    assert np.all(laplace.stddev()[0] > 0.0)


def test_a_classifier_is_never_worse_than_its_network_on_held_out_rows():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dense(3),
            layers.Categorical(3),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), loss=lambda y, rv_y: -rv_y.log_prob(y))
    classes = np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7])
    held_out = np.digitize(HELD_OUT[:, 0] + HELD_OUT[:, 1], [-0.7, 0.7])
    model.fit(X, classes, epochs=30, verbose=0)
    alone = -float(np.mean(model(HELD_OUT).log_prob(held_out)))
    laplace = LaplaceApproximation(model, X, classes, hessian_structure="kron")
    laplace.optimize_prior_stddev(validation_data=(HELD_OUT, held_out), num_samples=100, seed=0)
    prediction = laplace.predict_distribution(HELD_OUT, num_samples=100, seed=0)
    assert -float(np.mean(prediction.log_prob(held_out))) <= alone + 1e-6


def test_datasets_and_weights_of_rows():
    laplace = fitted()
    first = (HELD_OUT[:20], TARGETS[:20])
    expected = laplace.optimize_prior_stddev(validation_data=first, seed=1)
    batches = tf.data.Dataset.from_tensor_slices(first).batch(8)
    assert laplace.optimize_prior_stddev(validation_data=batches, seed=1) == expected
    weights = np.repeat([1.0, 0.0], [20, 10])
    everything = (HELD_OUT, TARGETS, weights)
    assert laplace.optimize_prior_stddev("gridsearch", everything, seed=1) == expected


def test_a_dict_is_multiplied():
    laplace = fitted(prior_stddev={"kernel": 2.0})
    factor = laplace.optimize_prior_stddev(validation_data=(HELD_OUT, TARGETS), seed=1)
    assert laplace.prior_stddev == {"kernel": 2.0 * factor}


def test_the_search_ends_near_the_least_loss():
    found = scale_of_least_loss(lambda scale: abs(np.log(scale / 0.04)) if scale else 9.0)
    assert abs(np.log10(found / 0.04)) <= 0.125
    assert scale_of_least_loss(lambda scale: np.nan if scale else 1.0) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "gridsearch"}, "`validation_data` must be given"),
        ({"method": "grid"}, "`method` must be one of"),
        ({"method": "marglik", "validation_data": (HELD_OUT, TARGETS)}, "must be `None` with"),
        ({"validation_data": (HELD_OUT,)}, "must be a tuple"),
        ({"validation_data": (HELD_OUT, TARGETS[:4])}, "one row for each row"),
        ({"validation_data": (HELD_OUT, TARGETS, np.zeros(30))}, "positive sum"),
    ],
)
def test_bad_arguments(arguments, message):
    laplace = fitted()
    with pytest.raises(ValueError, match=message):
        laplace.optimize_prior_stddev(**arguments)
    assert laplace.prior_stddev == 1.0
