"""The chains themselves: what they leave invariant, and how they warm up."""

import gc
import weakref

import numpy as np
import pytest
from keras import ops
from precision import needs_tensorflow
from probability import tf

from keras_extras.inference.markov_chains import MarkovChains, _windows

pytestmark = pytest.mark.both_backends(cases=0)

_COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]], "float32")
_PRECISION = np.linalg.inv(_COVARIANCE).astype("float32")


def correlated_normal(z, temperature=1.0):
    return -0.5 * temperature * tf.tensordot(z, tf.linalg.matvec(_PRECISION, z), 1)


def uniformity(values):
    """The p-value of Kolmogorov and Smirnov's test that numbers are uniform on [0, 1]."""
    values = np.sort(values)
    steps = np.arange(len(values) + 1) / len(values)
    distance = max(np.max(steps[1:] - values), np.max(values - steps[:-1]))
    scaled = (np.sqrt(len(values)) + 0.12 + 0.11 / np.sqrt(len(values))) * distance
    terms = np.arange(1, 101)
    return 2.0 * np.sum((-1.0) ** (terms - 1) * np.exp(-2.0 * (terms * scaled) ** 2))


@pytest.fixture(scope="module", params=["nuts", "hmc"])
def chains(request):
    return MarkovChains(correlated_normal, kernel=request.param, num_leapfrog_steps=5)


def run_from_exact_draws(chains):
    """Values after some transitions of chains that start where they should, in their own units."""
    generator = np.random.default_rng(3)
    start = generator.multivariate_normal([0, 0], _COVARIANCE, size=2000)
    draws = chains.run(start, 25, 0, generator, step_size=0.4)
    last = draws.values[:, -1]
    independent = last @ np.linalg.inv(np.linalg.cholesky(_COVARIANCE)).T
    return 0.5 * (1.0 + _error_function(independent / np.sqrt(2.0)))


def _error_function(values):
    return np.asarray(tf.math.erf(values))


def test_the_distribution_is_invariant(chains):
    levels = run_from_exact_draws(chains)
    for number, p in enumerate(map(uniformity, levels.T)):
        assert p > 1e-3, f"p = {p} for entry {number}"


@pytest.mark.slow
def test_another_temperature_is_caught():
    """The test above can fail: chains of the density to the power of 0.7 leave its draws."""
    wrong = MarkovChains(lambda z: correlated_normal(z, temperature=0.7), kernel="hmc")
    assert min(map(uniformity, run_from_exact_draws(wrong).T)) < 1e-3


def test_scales_that_differ_by_many_orders_are_learnt():
    scales = np.array([0.01, 1.0, 100.0], "float32")
    chains = MarkovChains(lambda z: -0.5 * ops.sum(tf.square(z / scales)))
    draws = chains.run(np.zeros((4, 3)) + 0.01, 1000, 500, np.random.default_rng(0))
    np.testing.assert_allclose(draws.values.std((0, 1)), scales, rtol=0.1)
    assert draws.stats["n_steps"].mean() < 16, "A transition takes many steps: scales not learned"


def test_stats(chains):
    draws = chains.run(np.zeros((3, 2)), 60, 100, np.random.default_rng(0))
    assert draws.values.shape == (3, 60, 2)
    names = {"lp", "diverging", "acceptance_rate", "n_steps", "step_size"}
    assert set(draws.stats) == names
    assert all(values.shape == (3, 60) for values in draws.stats.values())
    assert len(np.unique(draws.stats["step_size"])) == 1, "The step size changes while sampling"
    assert 0.6 < draws.stats["acceptance_rate"].mean() < 0.97
    expected = [float(correlated_normal(z)) for z in draws.values[0, :5]]
    np.testing.assert_allclose(draws.stats["lp"][0, :5], expected, rtol=1e-4)


def test_seeds_and_progress(chains):
    seen = []
    one, twin, other = (
        chains.run(np.zeros((2, 2)), 30, 50, np.random.default_rng(seed), on_progress=seen.append)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.values, twin.values)
    assert not np.array_equal(one.values, other.values)
    assert seen[: len(seen) // 3] == [25, 50, 75, 80]


def test_a_density_that_cannot_be_followed_diverges():
    chains = MarkovChains(lambda z: -0.5 * ops.sum(z**2), kernel="hmc")
    draws = chains.run(np.ones((4, 2)), 25, 0, np.random.default_rng(0), step_size=50.0)
    assert draws.stats["diverging"].all()


@pytest.mark.parametrize("chunks", [0, 1, 3, 4, 7, 20, 40])
def test_windows_of_the_warm_up(chunks):
    windows = list(_windows(chunks))
    assert sum(length for length, _ in windows) == chunks
    assert all(length > 0 for length, _ in windows)
    if chunks >= 4:
        assert [learns for _, learns in windows[:1] + windows[-1:]] == [False, False]
        slow = [length for length, learns in windows if learns]
        assert slow == sorted(slow)
        assert slow[-1] >= 0.3 * chunks


@needs_tensorflow  # whose graphs are objects
def test_graphs_are_freed_with_the_chains():
    def make_reference():
        graphs = []

        def log_prob(z):
            if not tf.executing_eagerly():
                graphs.append(tf.compat.v1.get_default_graph())
            return -0.5 * ops.sum(z**2)

        chains = MarkovChains(log_prob, jit_compile=False)
        chains.run(np.zeros((2, 3), "float32"), 10, 10, np.random.default_rng(0))
        return [weakref.ref(graph) for graph in graphs]

    references = make_reference()
    gc.collect()
    assert references
    assert [reference() for reference in references] == [None] * len(references)
