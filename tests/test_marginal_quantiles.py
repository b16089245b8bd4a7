"""Quantiles without a `quantile` method: support, heavy tails, atoms and wrappers."""

import numpy as np
import pytest
import tensorflow_probability as tfp

from keras_extras._core.marginals import cdf_around, is_discrete, quantile

tfd = tfp.distributions
stats = pytest.importorskip("scipy.stats")
HALF = np.array([0.5, 0.5], "float32")


CASES = {
    "reshaped": (
        tfd.BatchReshape(tfd.LogNormal([0.0, 1.0], [1.0, 0.5]), [2, 1]),
        stats.lognorm([[1.0], [0.5]], 0, [[1.0], [np.e]]),
    ),
    "mixture": (
        tfd.Mixture(tfd.Categorical(probs=HALF), [tfd.Normal(0.0, 1.0), tfd.Normal(0.0, 1.0)]),
        stats.norm(),
    ),
    "heavy": (
        tfd.MixtureSameFamily(tfd.Categorical(probs=HALF), tfd.Cauchy([0.0, 0.0], [1.0, 1.0])),
        stats.cauchy(),
    ),
    "inverse_gaussian": (
        tfd.InverseGaussian([1.0, 3.0], [1.0, 3.0]),
        stats.invgauss([1.0, 1.0], scale=[1.0, 3.0]),
    ),
    "poisson": (tfd.Poisson([0.01, 3.0, 1e4]), stats.poisson([0.01, 3.0, 1e4])),
    "bernoulli": (tfd.Bernoulli(probs=[0.02, 0.3]), stats.bernoulli([0.02, 0.3])),
    "categorical": (tfd.Categorical(probs=[0.1, 0.9]), stats.bernoulli(0.9)),
    "gamma64": (
        tfd.BatchReshape(tfd.Gamma(np.array([0.5, 3.0]), np.array(1.0)), [2, 1]),
        stats.gamma([[0.5], [3.0]]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_quantiles_agree_with_scipy(name):
    distribution, expected = CASES[name]
    for probability in (0.05, 0.9):
        actual = quantile(distribution, probability)
        np.testing.assert_allclose(actual, expected.ppf(probability), rtol=1e-4, atol=1e-7)


def test_hurdles_and_fractions():
    hurdle = tfd.Mixture(
        tfd.Categorical(probs=HALF), [tfd.Deterministic(0.0), tfd.Exponential(1.0)]
    )
    assert not is_discrete(hurdle)
    np.testing.assert_allclose(quantile(hurdle, 0.3), 0.0)
    np.testing.assert_allclose(quantile(hurdle, 0.75), np.log(2.0), rtol=1e-4)
    np.testing.assert_allclose(cdf_around(hurdle, 0.0), (0.0, 0.5))
    fractions = tfd.FiniteDiscrete([0.25, 0.5, 1.5], probs=[0.2, 0.5, 0.3])
    assert is_discrete(fractions)
    np.testing.assert_allclose(quantile(fractions, [0.1, 0.6, 0.9]), [0.25, 0.5, 1.5])
    np.testing.assert_allclose(cdf_around(fractions, 0.5), (0.2, 0.7), rtol=1e-6)


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (tfd.BatchReshape(tfd.Pareto([0.5], 1.0), []), stats.pareto(0.5)),
        (tfd.BatchReshape(tfd.LogNormal([30.0], 3.0), []), stats.lognorm(3.0, scale=np.exp(30.0))),
    ],
    ids=["Pareto", "LogNormal"],
)
def test_upper_tails_lose_nothing_to_slack(distribution, expected):
    np.testing.assert_allclose(quantile(distribution, 0.995), expected.ppf(0.995), rtol=1e-4)
