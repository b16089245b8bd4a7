"""The normal approximation after training, against closed forms."""

import keras
import numpy as np
import pytest
from keras import ops
from precision import ON_JAX
from probability import tf, tfd

from keras_extras import layers
from keras_extras.inference import LaplaceApproximation

pytestmark = pytest.mark.both_backends(cases=1)


_NOISE, _PRECISION = 0.5, 2.0
_GENERATOR = np.random.default_rng(0)
_X = _GENERATOR.normal(size=(50, 3)).astype("float32")
_Y = (_X @ [[1.0], [-2.0], [0.5]] + _NOISE * _GENERATOR.normal(size=(50, 1))).astype("float32")


def noise(outputs):
    return tfd.Independent(tfd.Normal(outputs, _NOISE), 1)


def linear_model():
    """A linear model at the mode of its posterior, and the precision of this."""
    precision = _X.T.astype("float64") @ _X / _NOISE**2 + _PRECISION * np.eye(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign(np.linalg.solve(precision, _X.T @ _Y / _NOISE**2))
    return model, precision


def evidence(precision):
    """The exact logarithm of the density of the targets, weights integrated out."""
    covariance = _NOISE**2 * np.eye(50) + _X.astype("float64") @ _X.T / precision
    _, log_determinant = np.linalg.slogdet(covariance)
    square = (_Y.T @ np.linalg.solve(covariance, _Y))[0, 0]
    return -0.5 * (square + log_determinant + 50 * np.log(2 * np.pi))


def network(head, outputs, hidden=4):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(hidden, activation="tanh"),
            keras.layers.Dense(outputs),
            head,
        ]
    )


def test_it_is_exact_for_a_linear_model():
    model, precision = linear_model()
    laplace = LaplaceApproximation(model, _X, _Y, _PRECISION**-0.5, likelihood=noise, batch_size=16)
    covariance = np.linalg.inv(precision)
    np.testing.assert_allclose(laplace.stddev()[0][:, 0] ** 2, np.diag(covariance), rtol=1e-4)
    np.testing.assert_allclose(laplace.log_marginal_likelihood(), evidence(_PRECISION), rtol=1e-5)
    offsets = laplace.sample_offsets(20_000, np.random.default_rng(0))[0][..., 0]
    np.testing.assert_allclose(np.cov(offsets.T), covariance, atol=0.03 * covariance.max())


def test_predictions_of_a_linear_model():
    model, precision = linear_model()
    laplace = LaplaceApproximation(model, _X, _Y, _PRECISION**-0.5, likelihood=noise)
    prediction = laplace.predict_distribution(_X, num_samples=4000, batch_size=20, seed=1)
    np.testing.assert_allclose(prediction.mean(), model(_X), atol=0.02)
    variance = np.einsum("ni,ij,nj->n", _X, np.linalg.inv(precision), _X)
    np.testing.assert_allclose(prediction.epistemic_variance()[:, 0], variance, rtol=0.1)
    np.testing.assert_allclose(prediction.aleatoric_variance(), _NOISE**2, rtol=1e-4)


def test_the_prior_of_the_greatest_evidence():
    model, _ = linear_model()
    laplace = LaplaceApproximation(model, _X, _Y, likelihood=noise)
    best = laplace.optimize_prior_stddev()
    assert best == laplace.prior_stddev
    values = [laplace.log_marginal_likelihood(best * factor) for factor in (0.9, 1.0, 1.1)]
    with pytest.raises(ValueError, match="`prior_stddev` must be greater than 0"):
        laplace.log_marginal_likelihood(-best)
    assert values[1] == max(values)
    grid = 10.0 ** np.linspace(-6, 6, 2001)
    # The weights stay where they are, so that of the exact evidence is near, not the same.
    exact = grid[np.argmax([evidence(value) for value in grid])]
    assert 0.8 < best**-2 / exact < 1.25, (best, exact)


@pytest.mark.parametrize("head", [layers.OneHotCategorical, layers.Categorical])
def test_the_curvature_of_softmax_regression(head):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False), head(2)])
    labels = (_Y[:, 0] > 0).astype("int32")
    targets = np.eye(2, dtype="float32")[labels] if head is layers.OneHotCategorical else labels
    laplace = LaplaceApproximation(model, _X, targets, hessian_structure="diag")
    p = np.asarray(ops.softmax(_X @ model.layers[0].kernel))
    expected = np.einsum("ni,nk->ik", _X**2, p * (1 - p)) + 1.0
    np.testing.assert_allclose(laplace.stddev()[0] ** -2, expected, rtol=1e-3)


def test_the_curvature_of_noise_that_depends_on_the_inputs():
    """Fisher's information: 1 / scale^2 of the location, 2 / scale^2 of the scale."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, use_bias=False), layers.IndependentNormal(1)]
    )
    laplace = LaplaceApproximation(model, _X, _Y, hessian_structure="diag")
    raw = np.asarray(_X @ model.layers[0].kernel)[:, 1].astype("float64")
    scale, slope = np.logaddexp(0, raw), 1 / (1 + np.exp(-raw))
    by_row = np.stack([1 / scale**2, 2 * slope**2 / scale**2], axis=1)
    expected = np.einsum("ni,nk->ik", _X.astype("float64") ** 2, by_row) + 1.0
    np.testing.assert_allclose(laplace.stddev()[0] ** -2, expected, rtol=1e-3)


def test_the_diagonal_and_the_last_layer_are_parts_of_the_whole():
    model = network(layers.IndependentNormal(1), 2)
    full, diagonal, last, diagonal_of_last = (
        LaplaceApproximation(model, _X, _Y, subset_of_weights=subset, hessian_structure=structure)
        for subset in ("all", "last_layer")
        for structure in ("full", "diag")
    )
    matrix = full._matrix
    np.testing.assert_allclose(diagonal._matrix, np.diag(matrix), rtol=1e-3, atol=1e-4)
    block = last._matrix
    np.testing.assert_allclose(block, matrix[-10:, -10:], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(diagonal_of_last._matrix, np.diag(block), rtol=1e-3, atol=1e-3)
    assert [value.shape for value in last.mode] == [(4, 2), (2,)]
    wide, narrow = (
        np.mean(each.predict_distribution(_X, seed=1).epistemic_variance()) for each in (full, last)
    )
    assert wide > narrow


def test_the_curvature_is_that_of_finite_differences():
    """At a perfect fit of the location the Gauss-Newton matrix is the Hessian."""
    model = network(keras.layers.Identity(), 1)
    targets = np.asarray(model(_X))
    laplace = LaplaceApproximation(model, _X, targets, likelihood=noise)
    matrix = laplace._matrix
    kernel = model.layers[0].kernel
    start, step = np.array(kernel), 1e-2

    def loss(offset):
        value = start.copy()
        value[0, 0] += offset
        kernel.assign(value)
        return -float(np.sum(np.asarray(noise(model(_X)).log_prob(targets)), dtype="float64"))

    difference = (loss(step) - 2 * loss(0.0) + loss(-step)) / step**2
    np.testing.assert_allclose(matrix[0, 0], difference, rtol=0.02)


def test_a_mixture_has_a_positive_curvature():
    model = network(layers.MixtureNormal(2), 6)
    laplace = LaplaceApproximation(model, _X, _Y[:, 0])
    assert laplace._eigenvalues.min() >= 0.0
    assert laplace._eigenvalues.max() > 1.0
    assert np.isfinite(laplace.predict_distribution(_X).log_prob(_Y[:, 0])).all()


def test_training_on_changes_nothing():
    model = network(layers.IndependentNormal(1), 2)
    laplace = LaplaceApproximation(model, _X, _Y)
    before = np.asarray(laplace.predict_distribution(_X, seed=1).mean())
    for variable in model.trainable_variables:
        variable.assign_add(ops.ones(variable.shape))
    np.testing.assert_array_equal(laplace.predict_distribution(_X, seed=1).mean(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hessian_structure": "lowrank"}, "`hessian_structure` must be one of"),
        ({"subset_of_weights": "first_layer"}, "`subset_of_weights` must be one of"),
        ({"prior_stddev": 0.0}, "`prior_stddev` must be greater than 0"),
        ({"likelihood": None}, "has no likelihood"),
        ({"y": np.zeros((50, 2), "float32")}, "cannot pair targets"),
        ({"y": _Y[:40]}, "one row for each row"),
        ({"y": np.full_like(_Y, np.nan), "x": np.full_like(_X, np.nan)}, "must be finite"),
    ],
)
def test_bad_arguments(arguments, message):
    arguments = {"model": linear_model()[0], "x": _X, "y": _Y, "likelihood": noise, **arguments}
    with pytest.raises(ValueError, match=message):
        LaplaceApproximation(**arguments)


def test_random_models_and_too_many_weights():
    model = keras.Sequential(
        [keras.Input((3,)), layers.DenseFlipout(2), layers.IndependentNormal(1)]
    )
    with pytest.raises(ValueError, match="is random"):
        LaplaceApproximation(model, _X, _Y)
    model = network(layers.IndependentNormal(1), 2, hidden=2000)
    with pytest.raises(
        ValueError,
        match=r"at most 10000 weights.*='diag' or subset_of_weights='last_layer'",
    ):
        LaplaceApproximation(model, _X, _Y)
    LaplaceApproximation(model, _X[:5], _Y[:5], hessian_structure="diag")


def test_the_information_of_a_likelihood_with_softsign():
    """Whose second derivative TensorFlow lacks: F = (d mu / d f)^2 / sigma^2."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[0.7]])
    x = np.linspace(-1.0, 1.0, 7, dtype="float32")[:, None]
    y = 0.3 * x

    def likelihood(outputs):
        return tfd.Independent(tfd.Normal(ops.softsign(outputs), 0.5), 1)

    laplace = LaplaceApproximation(model, x, y, likelihood=likelihood)
    slopes = x / (1 + np.abs(0.7 * x)) ** 2
    precision = 1.0 + np.sum((slopes / 0.5) ** 2)
    np.testing.assert_allclose(laplace.stddev()[0], [[precision**-0.5]], rtol=1e-5)
    if ON_JAX:
        return
    with pytest.raises(ValueError, match="SoftsignGrad"):
        LaplaceApproximation(
            model,
            x,
            y,
            likelihood=lambda o: tfd.Independent(
                tfd.Normal(tf.raw_ops.Softsign(features=o), 0.5), 1
            ),
        )


def test_priors_by_pattern_with_mean_and_temperature():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.layers[0].kernel.assign([[1.0], [-2.0], [0.5]])
    temperature, precisions, mean = 2.0, np.array([3.0, 3.0, 3.0, 0.5]), [[1.0], [-1.0], [0.0]]
    laplace = LaplaceApproximation(
        model,
        _X,
        _Y,
        prior_stddev={"kernel": 3.0**-0.5, "bias": 0.5**-0.5},
        likelihood=noise,
        prior_mean={"kernel": np.array(mean), "*": 1.0},
        temperature=temperature,
    )
    inputs = np.concatenate([_X, np.ones((50, 1))], axis=1).astype("float64")
    precision = inputs.T @ inputs / _NOISE**2 / temperature + np.diag(precisions)
    expected = np.sqrt(np.diag(np.linalg.inv(precision)))
    received = np.concatenate([np.ravel(part) for part in laplace.stddev()])
    np.testing.assert_allclose(received, expected, rtol=1e-5)
    draws = laplace.sample_offsets(20_000, np.random.default_rng(0))
    flat = np.concatenate([part.reshape(20_000, -1) for part in draws], axis=1)
    np.testing.assert_allclose(np.cov(flat.T), np.linalg.inv(precision), atol=1e-3)
    weights = np.array([1.0, -2.0, 0.5, 0.0])
    prior = tfd.Normal(np.array([1.0, -1.0, 0.0, 1.0]), precisions**-0.5).log_prob(weights)
    log_likelihood = np.sum(noise(model(_X)).log_prob(_Y)) / temperature
    _, log_determinant = np.linalg.slogdet(precision / (2 * np.pi))
    evidence_here = log_likelihood + np.sum(prior) - 0.5 * log_determinant
    np.testing.assert_allclose(laplace.log_marginal_likelihood(), evidence_here, rtol=1e-5)
    factor = laplace.optimize_prior_stddev()
    assert laplace.prior_stddev == {"kernel": 3.0**-0.5 * factor, "bias": 0.5**-0.5 * factor}
    with pytest.raises(ValueError, match="a pattern for each weight"):
        LaplaceApproximation(model, _X, _Y, {"kernel": 3.0}, likelihood=noise)
