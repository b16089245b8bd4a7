"""Quantiles without a `quantile` method: support, heavy tails, atoms and wrappers."""

import numpy as np
import pytest
from precision import ON_JAX
from probability import compiled, seed_of, tf, tfb, tfd

from keras_extras import metrics
from keras_extras._core.cdf_around import cdf_around
from keras_extras._core.distribution_kinds import is_discrete
from keras_extras._core.quantiles import quantile

pytestmark = pytest.mark.both_backends(cases=0)

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


def test_angles_count_in_the_turn_of_their_distribution():
    angles = tfd.VonMises(-1.0, 0.2)
    np.testing.assert_allclose(cdf_around(angles, 3.0)[1], angles.cdf(3.0 - 2.0 * np.pi), rtol=1e-5)


def test_outcomes_of_another_precision_are_outcomes():
    fractions = tfd.FiniteDiscrete(np.array([0.1, 0.7]), probs=np.array([0.4, 0.6]))
    np.testing.assert_allclose(cdf_around(fractions, np.float32(0.7)), (0.4, 1.0))


SHAPE = np.array([1.0, 2.0, 4.0], "float32")
FACTOR = np.array([[0.6, 0.0], [0.5, 0.4]], "float32")
SPREADS = np.sqrt((FACTOR**2).sum(axis=1))
VECTORS = {
    "Sample": (tfd.Sample(tfd.Gamma(SHAPE, 1.0), 2), stats.gamma(SHAPE[:, None] * np.ones(2))),
    "Sample of vectors": (
        tfd.Sample(tfd.MultivariateNormalDiag([[0.0, 1.0]], [1.0, 2.0]), 3),
        stats.norm([[[0.0, 1.0]] * 3], [1.0, 2.0]),
    ),
    "StudentT": (
        tfd.MultivariateStudentTLinearOperator(
            [3.0], [1.0, 2.0], tf.linalg.LinearOperatorLowerTriangular(FACTOR)
        ),
        stats.t([[3.0, 3.0]], [1.0, 2.0], SPREADS),
    ),
    "Dirichlet": (tfd.Dirichlet(SHAPE), stats.beta(SHAPE, SHAPE.sum() - SHAPE)),
    "DirichletMultinomial": (
        tfd.DirichletMultinomial(5.0, SHAPE),
        stats.betabinom(5, SHAPE, SHAPE.sum() - SHAPE),
    ),
    "transformed": (
        tfd.TransformedDistribution(tfd.MultivariateNormalTriL([0.0, 1.0], FACTOR), tfb.Exp()),
        stats.lognorm(SPREADS, scale=np.exp([0.0, 1.0])),
    ),
    "low rank": (
        tfd.MultivariateNormalDiagPlusLowRankCovariance(
            [0.0, 1.0], [1.0, 2.0], np.array([[1.0], [0.5]], "float32")
        ),
        stats.norm([0.0, 1.0], np.sqrt([2.0, 2.25])),
    ),
    "deterministic": (tfd.VectorDeterministic(SHAPE), None),
}


@pytest.mark.parametrize("name", VECTORS)
def test_entries_of_vectors(name):
    distribution, expected = VECTORS[name]
    values = np.asarray(quantile(distribution, [0.1, 0.8]))
    if expected is None:
        np.testing.assert_array_equal(values, [SHAPE, SHAPE])
        return
    for probability, actual in zip([0.1, 0.8], values):
        np.testing.assert_allclose(actual, expected.ppf(probability), rtol=1e-4)
        at = cdf_around(distribution, actual)[1]
        np.testing.assert_allclose(at, expected.cdf(actual), rtol=1e-4)


def test_entries_that_depend_on_each_other_in_unknown_ways_are_refused():
    unknown = tfd.RelaxedOneHotCategorical(0.5, logits=[0.0, 1.0])
    with pytest.raises(NotImplementedError, match="from draws"):
        quantile(unknown, 0.5)
    np.testing.assert_allclose(np.add(*cdf_around(unknown, [0.5, 0.5])).sum(), 2.0, atol=0.1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_shapes_and_narrow_ones(dtype):
    for shape in (1e5, 1e6, 1e9):
        given, one = np.array(shape, dtype), np.ones((), dtype)
        pairs = [
            (tfd.Gamma(given, one), stats.gamma(shape)),
            (tfd.InverseGamma(given, one), stats.invgamma(shape)),
            (tfd.Chi2(given), stats.chi2(shape)),
            (tfd.Poisson(given), stats.poisson(shape)),
            (tfd.InverseGaussian(one, given), stats.invgauss(1 / shape, scale=shape)),
        ]
        for distribution, expected in pairs:
            for probability in (0.01, 0.9):
                y = np.asarray(expected.ppf(probability), dtype)
                at = cdf_around(distribution, y)[1]
                np.testing.assert_allclose(at, expected.cdf(float(y)), rtol=1e-4)


def test_large_shapes_in_compiled_programs():
    """There JAX has single precision only."""
    shape = np.array([50.0, 150.0, 250.0, 1e3, 1e5, 1e6, 1e9], "float32")
    check_compiled(lambda a: tfd.Gamma(a, 1.0), shape, stats.gamma(shape), rtol=1e-4)
    check_compiled(lambda a: tfd.Poisson(a), shape, stats.poisson(shape), rtol=1e-4)


def check_compiled(make, parameter, expected, rtol):
    at_most = compiled(lambda parameter, y: cdf_around(make(parameter), y)[1])
    for probability in (0.01, 0.5, 0.9):
        y = expected.ppf(probability).astype("float32")
        actual = np.asarray(at_most(parameter, y))
        exact = expected.cdf(y.astype("float64"))
        np.testing.assert_allclose(actual, np.where(np.isnan(actual), np.nan, exact), rtol)
    return np.isnan(actual)


def test_compiled_programs_are_precise_or_have_no_number():
    count = np.array([20.0, 100.0, 900.0, 1e4, 1e6], "float32")
    share = float(np.float32(0.4))
    rtol = 5e-3 if ON_JAX else 1e-4
    for make, expected in (
        (lambda n: tfd.Binomial(n, probs=0.4), stats.binom(count, share)),
        (
            lambda n: tfd.Beta(0.4 * n, 0.6 * n),
            stats.beta(np.float32(0.4) * count, np.float32(0.6) * count),
        ),
        (lambda n: tfd.NegativeBinomial(n, probs=0.01), stats.nbinom(count, 0.99)),
    ):
        lost = check_compiled(make, count, expected, rtol)
        np.testing.assert_array_equal(lost, (count > 1e3) & ON_JAX)


def test_transformed_numbers_of_large_shapes():
    falling = tfb.Chain([tfb.Scale(-2.0), tfb.Shift(1.0)])
    distribution = tfd.TransformedDistribution(tfd.Gamma([3.0, 1e6], 1.0), falling)
    gamma = stats.gamma([3.0, 1e6])
    for probability in (0.05, 0.5, 0.9):
        values = np.asarray(quantile(distribution, probability), "float64")
        expected = 1.0 - gamma.cdf(-0.5 * values - 1.0)
        np.testing.assert_allclose(expected, probability, atol=1e-4)
        np.testing.assert_allclose(cdf_around(distribution, values)[1], expected, atol=1e-5)


def test_coverage_and_pit_of_a_hurdle():
    hurdle = tfd.Mixture(
        tfd.Categorical(probs=[0.3, 0.7]), [tfd.Deterministic(0.0), tfd.LogNormal(0.0, 1.0)]
    )
    y = hurdle.sample(4_000, seed=seed_of(1, 2))
    coverage = metrics.IntervalCoverage(0.5)
    coverage.update_state(y, tfd.BatchBroadcast(hurdle, 4_000))
    low, high = quantile(hurdle, [0.25, 0.75])
    assert low == 0.0  # The hurdle holds 0.3, and is inside.
    inside = np.mean((y >= low) & (y <= high))
    np.testing.assert_allclose(inside, 0.75, atol=0.02)
    np.testing.assert_allclose(coverage.result(), inside, atol=1e-6)
    before, at = map(np.asarray, cdf_around(hurdle, y))
    drawn = before + (at - before) * np.random.default_rng(0).random(len(y))
    assert stats.kstest(drawn, "uniform").pvalue > 0.01


class Cubic(tfd.Distribution):
    """On (0, 1) with the distribution function y^3, and no word about its parameters."""

    def __init__(self):
        super().__init__(tf.float32, tfd.NOT_REPARAMETERIZED, False, False, {})

    def _batch_shape(self):
        return tf.TensorShape([])

    _event_shape = _batch_shape

    def _batch_shape_tensor(self):
        return tf.zeros([0], "int32")

    _event_shape_tensor = _batch_shape_tensor

    def _cdf(self, value):
        return tf.clip_by_value(value, 0.0, 1.0) ** 3


def test_distributions_of_users_that_tell_of_no_parameters():
    np.testing.assert_allclose(quantile(Cubic(), 0.2), 0.2 ** (1 / 3), rtol=1e-4)
    np.testing.assert_allclose(cdf_around(Cubic(), 0.5), (0.125, 0.125))


def test_probabilities_of_any_shape_between_0_and_1():
    normal = tfd.Normal([0.0, 1.0], 1.0)
    probabilities = np.array([[0.1, 0.5], [0.7, 0.9]])
    expected = stats.norm([0.0, 1.0]).ppf(probabilities[..., None])
    np.testing.assert_allclose(quantile(normal, probabilities), expected, rtol=1e-5, atol=1e-6)
    for wrong in (90, -0.1, float("nan"), "0.9", [0.5, 1.1]):
        with pytest.raises(ValueError, match=r"such as 0\.9 for 90 %"):
            quantile(normal, wrong)
