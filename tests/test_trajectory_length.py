"""HMC that learns how long its trajectories are: its draws, its lengths, its errors."""

import keras
import numpy as np
import pytest
from keras import ops
from probability import tfd

from keras_extras.inference import sample_posterior
from keras_extras.inference.markov_chains import MarkovChains
from keras_extras.inference.trajectory_length import squared_jumps

pytestmark = pytest.mark.both_backends(cases=1)

_DEVIATIONS = np.geomspace(1.0, 31.6, 8)
_ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
_PRECISION = ((_ROTATION / _DEVIATIONS**2) @ _ROTATION.T).astype("float32")


def rotated_normal(z):
    return -0.5 * ops.sum(z * ops.matmul(_PRECISION, z))


@pytest.fixture(scope="module")
def chains():
    return MarkovChains(rotated_normal, kernel="hmc", num_leapfrog_steps="auto")


@pytest.fixture(scope="module")
def draws(chains):
    generator = np.random.default_rng(1)
    return chains.run(0.1 * generator.normal(size=(8, 8)), 1000, 600, generator)


def test_moments(draws):
    along = draws.values @ _ROTATION / _DEVIATIONS
    np.testing.assert_allclose(along.mean((0, 1)), 0.0, atol=0.1)
    np.testing.assert_allclose(along.std((0, 1)), 1.0, atol=0.1)


def test_trajectories_turn_once(draws):
    """The slowest direction turns within a quarter of its period, pi / 2 standard deviations."""
    length = np.unique(draws.stats["trajectory_length"])
    assert len(length) == 1, "It is learned in the warm-up only"
    scaled = np.diag(1.0 / draws.scale) @ _ROTATION @ np.diag(_DEVIATIONS)
    slowest = np.linalg.norm(scaled, ord=2)
    assert 0.6 < 0.7 * length[0] / (0.5 * np.pi * slowest) < 1.6, "0.7 is the mean of the jitter"
    steps = draws.stats["n_steps"]
    assert (steps == steps[0]).all(), "All chains take as many steps"
    assert len(np.unique(steps)) > 3, "Lengths vary"


def test_the_distribution_is_invariant(chains, draws):
    """Without a warm-up: means and squares of draws after 25 transitions from exact ones."""
    generator = np.random.default_rng(2)
    exact = (generator.normal(size=(2000, 8)) * _DEVIATIONS) @ _ROTATION.T
    length = float(draws.stats["trajectory_length"][0, -1])
    options = {"step_size": draws.step_size, "scale": draws.scale, "trajectory_length": length}
    last = chains.run(exact, 25, 0, generator, **options).values[:, -1] @ _ROTATION / _DEVIATIONS
    np.testing.assert_allclose(last.mean(0), 0.0, atol=4.0 / np.sqrt(2000))
    np.testing.assert_allclose((last**2).mean(0), 1.0, atol=4.0 * np.sqrt(2.0 / 2000))


def test_squared_jumps_are_shares_of_those_of_independent_draws():
    """For independent draws both correlations are 0: 1 + 2 in a unit of length."""
    start, end = np.random.default_rng(0).normal(size=(2, 20_000, 3)).astype("float32")
    lengths = np.full(20_000, 2.0, "float32")
    values = squared_jumps(start, end, np.ones(20_000, "float32"), lengths)
    assert float(ops.mean(values)) == pytest.approx(1.5, rel=0.03)
    assert np.all(ops.convert_to_numpy(squared_jumps(start, start, lengths / 2, lengths)) == 0.0)


def test_ends_that_are_not_finite_count_for_nothing():
    start, end = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    end[1] = np.nan
    accept = np.array([0.9, 0.0, 0.5, 1.0], "float32")
    values = ops.convert_to_numpy(squared_jumps(start, end, accept, np.ones(4, "float32")))
    assert np.isfinite(values[[0, 2, 3]]).all()


def model_of_a_line():
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])


_X = np.linspace(-1.0, 1.0, 20, dtype="float32")[:, None]
_Y = 2.0 * _X + 0.5


def sample(model, **options):
    options = {"num_chains": 2, "num_results": 50, "num_burnin_steps": 200, **options}
    options = {"kernel": "hmc", "num_leapfrog_steps": "auto", "seed": 0, "verbose": 0, **options}
    return sample_posterior(
        model, _X, _Y, likelihood=lambda out: tfd.Independent(tfd.Normal(out, 0.5), 1), **options
    )


def test_chains_go_on_with_their_length_and_resume_bit_for_bit(tmp_path):
    model = model_of_a_line()
    posterior = sample(model, backup_dir=tmp_path / "chains")
    for chunk in sorted((tmp_path / "chains").glob("chunk_*"))[-3:]:
        chunk.unlink()
    resumed = sample(model, backup_dir=tmp_path / "chains")
    for one, other in zip(posterior.samples, resumed.samples, strict=True):
        np.testing.assert_array_equal(one, other)
    more = sample(model, initial=posterior, num_burnin_steps=0)
    assert more.step_size == posterior.step_size
    lengths = [p.sample_stats["trajectory_length"][0, -1] for p in (posterior, more)]
    assert lengths[0] == lengths[1] != 10 * posterior.step_size


@pytest.mark.parametrize(
    "options",
    [{"kernel": "nuts"}, {"kernel": "mclmc"}, {"num_chains": 1}, {"num_leapfrog_steps": "chees"}],
    ids=str,
)
def test_what_cannot_be_learned_is_refused(options):
    with pytest.raises(ValueError, match='or "auto" with kernel="hmc" and at least two chains'):
        sample(model_of_a_line(), **options)
