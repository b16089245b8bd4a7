"""Microcanonical Langevin: its dynamics, what its chains draw, and how large their bias is."""

import keras
import numpy as np
import pytest
from keras import ops
from probability import tf, tfd
from tiers import quick

from keras_extras import layers
from keras_extras.inference import Posterior, sample_posterior
from keras_extras.inference.markov_chains import MarkovChains
from keras_extras.inference.microcanonical_langevin import (
    StepSizeAverage,
    adapt,
    integrate,
    refresh,
)
from keras_extras.pipelines import ProbabilisticClassifier, ProbabilisticRegressor

pytestmark = pytest.mark.both_backends(cases=0)


_SIZE = 10
_NOISE = 0.5
_GENERATOR = np.random.default_rng(0)
_X = (_GENERATOR.normal(size=(40, 3)) @ [[1, 0.5, 0], [0, 1, 0.3], [0, 0, 1]]).astype("float32")
_Y = (_X @ [[1.0], [-2.0], [0.5]] + 0.7).astype("float32")
_Y += _NOISE * _GENERATOR.normal(size=(40, 1)).astype("float32")


def noise(outputs):
    return tfd.Independent(tfd.Normal(outputs, _NOISE), 1)


def rotated(condition, size=_SIZE):
    """Axes and standard deviations of a normal distribution, whose covariance is not diagonal."""
    axes, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(size, size)))
    return axes, np.geomspace(1.0, np.sqrt(condition), size)


def normal(z, precision):
    return -0.5 * tf.tensordot(z, tf.linalg.matvec(precision, z), 1)


def draw(chains, condition, num_results=1500):
    """Draws along the axes in units of the known standard deviations, and the statistics."""
    axes, scales = rotated(condition)
    precision = tf.constant((axes / scales**2) @ axes.T, "float32")
    start = np.random.default_rng(2).normal(size=(4, _SIZE))
    draws = chains.run(start, num_results, 1000, np.random.default_rng(1), data=(precision,))
    return draws.values @ axes / scales, draws


@pytest.fixture(scope="module")
def chains():
    return MarkovChains(normal, "mclmc")


@pytest.mark.parametrize("condition", [1, 100, 10_000])
def test_normal_distributions_of_known_covariance(chains, condition):
    """Standard deviations within 5 %, means within 0.1 of them."""
    values, draws = draw(chains, condition)
    assert not draws.stats["diverging"].any()
    np.testing.assert_allclose(values.std((0, 1)), 1.0, atol=0.05)
    np.testing.assert_allclose(values.mean((0, 1)), 0.0, atol=0.1)
    correlations = np.corrcoef(values.reshape(-1, _SIZE).T)
    np.testing.assert_allclose(correlations, np.eye(_SIZE), atol=0.12)
    assert 0.5 < draws.stats["energy_variance"].mean() / 5e-4 < 1.5


def test_a_large_variance_of_the_energy_biases_what_is_drawn():
    """The test above can fail: steps as long as this shrink the distribution."""
    values, draws = draw(MarkovChains(normal, "mclmc", target_energy_variance=0.1), 1)
    assert 0.5 < draws.stats["energy_variance"].mean() / 0.1 < 1.5
    assert values.std((0, 1)).mean() < 0.97


def value_and_gradient(z):
    return -0.25 * keras.ops.sum(z**4, axis=-1), -(z**3)


def state(size=6, chains=100):
    generator = np.random.default_rng(3)
    z, momentum = (
        keras.ops.convert_to_tensor(generator.normal(size=(chains, size)), "float64")
        for _ in range(2)
    )
    return z, momentum / keras.ops.norm(momentum, axis=-1, keepdims=True)


def energy_error(step_size):
    z, momentum = state()
    log_prob, gradient = value_and_gradient(z)
    _, new, _, _, kinetic = integrate(value_and_gradient, z, gradient, momentum, step_size)
    return np.asarray(kinetic - (new - log_prob))


def test_a_step_can_be_reversed_and_keeps_the_speed():
    z, momentum = state()
    gradient = value_and_gradient(z)[1]
    end, _, end_gradient, turned, kinetic = integrate(
        value_and_gradient, z, gradient, momentum, 0.3
    )
    np.testing.assert_allclose(keras.ops.norm(turned, axis=-1), 1.0, rtol=1e-5)
    back, _, _, turned_back, change = integrate(value_and_gradient, end, end_gradient, -turned, 0.3)
    np.testing.assert_allclose(back, z, atol=1e-5)
    np.testing.assert_allclose(turned_back, -momentum, atol=1e-5)
    np.testing.assert_allclose(change, -kinetic, atol=1e-4)


def test_the_error_of_the_energy_is_of_third_order():
    large, small = (np.median(np.abs(energy_error(size))) for size in (0.1, 0.05))
    assert large / small == pytest.approx(8.0, rel=0.1)


def test_momenta_lose_their_direction_within_a_length():
    size = 400
    momentum = np.zeros((2000, size), "float32")
    momentum[:, 0] = 1.0
    generator = np.random.default_rng(4)
    for _ in range(10):  # Ten steps of a tenth of the length.
        random = generator.normal(size=momentum.shape).astype("float32")
        momentum = np.asarray(refresh(momentum, random, 0.1 * size**0.5))
    np.testing.assert_allclose(np.linalg.norm(momentum, axis=1), 1.0, rtol=1e-4)
    assert momentum[:, 0].mean() == pytest.approx(np.exp(-1.0), abs=0.01)


def test_the_step_size_is_that_of_the_error_wanted():
    """Squared errors grow by the sixth power of the step size."""
    generator = np.random.default_rng(6)
    step_size, average = np.float32(1e-3), StepSizeAverage(*map(np.float64, StepSizeAverage()))
    sizes = []
    for _ in range(600):
        ratios = (np.float64(step_size) / 0.7) ** 6 * generator.chisquare(1, size=4)
        step_size, average = adapt(step_size, ratios, np.full(4, True), average)
        sizes.append(float(step_size))
    assert np.mean(sizes[100:]) == pytest.approx(0.7, rel=0.05)
    bad = np.array([True, False, True, True])
    shrunk, average = adapt(np.float32(0.5), np.ones(4), bad, average)
    assert float(shrunk) < 0.81 * 0.5


def test_what_is_not_finite_is_not_drawn():
    """Half a normal distribution, beyond whose edge the density is NaN."""

    def log_prob(z):
        return -0.5 * ops.sum(z**2) + 0.0 * tf.math.log(z[0])

    start = np.abs(np.random.default_rng(0).normal(size=(4, 3)))
    draws = MarkovChains(log_prob, "mclmc", jit_compile=False, num_leapfrog_steps=2).run(
        start, 50, 50, np.random.default_rng(1)
    )
    assert np.isfinite(draws.values).all()
    assert (draws.values[..., 0] > 0.0).all()
    assert draws.stats["diverging"].any()


def linear_model():
    keras.utils.set_random_seed(20)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def sample(model, x=_X, y=_Y, **arguments):
    options = {"likelihood": noise, "kernel": "mclmc", "seed": 1, "verbose": 0}
    return sample_posterior(model, x, y, **{**options, **arguments})


@pytest.fixture(scope="module")
def model():
    return linear_model()


@pytest.fixture(scope="module")
def posterior(model):
    return sample(model, num_burnin_steps=500)


def test_the_known_posterior_of_a_linear_model(posterior):
    """Means within 0.15 standard deviations, standard deviations within 6 %."""
    inputs = np.concatenate([_X, np.ones((40, 1))], axis=1).astype("float64")
    covariance = np.linalg.inv(inputs.T @ inputs / _NOISE**2 + np.eye(4))
    mean = covariance @ inputs.T @ _Y[:, 0] / _NOISE**2
    deviations = np.sqrt(np.diag(covariance))
    kernel, bias = posterior.samples
    draws = np.concatenate([kernel[..., 0], bias], axis=-1)
    np.testing.assert_allclose((draws.mean((0, 1)) - mean) / deviations, 0.0, atol=0.15)
    np.testing.assert_allclose(draws.std((0, 1)) / deviations, 1.0, atol=0.06)


def test_the_variance_of_the_energy_is_reported(posterior, tmp_path):
    stats = posterior.sample_stats["energy_variance"]
    assert stats.shape == (4, 1000)
    assert posterior.energy_variance == pytest.approx(stats.mean())
    assert 0.5 < posterior.energy_variance / 5e-4 < 1.5
    assert (posterior.sample_stats["n_steps"] == 10).all()
    pytest.importorskip("arviz")
    assert posterior.to_arviz().sample_stats["energy_variance"].shape == (4, 1000)
    table = posterior.summary()
    assert table.attrs["energy_variance"] == posterior.energy_variance
    assert table["r_hat"].max() < 1.02
    posterior.save(tmp_path / "draws.npz")
    loaded = Posterior.load(tmp_path / "draws.npz", posterior.model, noise)
    assert loaded.energy_variance == posterior.energy_variance


def test_other_posteriors_have_no_variance_of_the_energy(model):
    assert Posterior(model, [np.zeros((1, 2, 3, 1)), np.zeros((1, 2, 1))]).energy_variance is None


def test_steps_that_are_too_long_are_warned_of(model):
    with pytest.warns(UserWarning, match="The energy varies by .*twice `target_energy_variance`"):
        sample(model, num_burnin_steps=0, num_results=25, step_size=0.3)


@pytest.mark.filterwarnings("ignore:The energy varies")
def test_divergences_are_warned_of(model):
    with pytest.warns(UserWarning, match="transitions diverged.*Lower `target_energy_variance`"):
        sample(model, num_burnin_steps=0, num_results=25, step_size=1e4)


def test_it_goes_on_with_the_step_size_and_scales_it_had(model, posterior):
    more = sample(model, initial=posterior, num_burnin_steps=0, num_results=200)
    assert more.step_size == posterior.step_size
    for one, other in zip(more.scales, posterior.scales, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert 0.4 < more.energy_variance / 5e-4 < 2.0


def test_a_backup_goes_on_bit_for_bit(tmp_path, model):
    options = {"num_chains": 2, "num_burnin_steps": 100, "num_results": 60}
    options |= {"target_energy_variance": 1e-3, "num_leapfrog_steps": 2, "jit_compile": False}
    whole = sample(model, **options)
    folder = tmp_path / "chains"
    sample(model, **options, backup_dir=folder)
    chunks = sorted(folder.glob("chunk_*"))
    assert len(chunks) == 7
    for kept in (5, 1):
        for chunk in chunks[kept:]:
            chunk.unlink()
        resumed = sample(model, **options, backup_dir=folder)
        for one, other in zip(whole.samples, resumed.samples, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(
            whole.sample_stats["energy_variance"], resumed.sample_stats["energy_variance"]
        )
    with pytest.raises(ValueError, match="another target_energy_variance"):
        sample(model, **{**options, "target_energy_variance": 5e-4}, backup_dir=folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_tree_depth": 5}, "`max_tree_depth` is an argument of the kernels"),
        ({"target_accept_prob": 0.9}, "`target_accept_prob` is an argument of the kernels"),
        ({"target_energy_variance": 0.0}, "`target_energy_variance` must be greater than 0"),
        ({"target_energy_variance": np.nan}, "`target_energy_variance` must be"),
        (
            {"kernel": "nuts", "target_energy_variance": 1e-3},
            "`target_energy_variance` is an argument of the kernels",
        ),
    ],
)
def test_arguments_that_a_kernel_has_no_use_for(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        sample(model, **arguments)


def test_a_single_weight_is_refused():
    single = keras.Sequential([keras.Input((3,)), keras.layers.Flatten(), _Sum()])
    with pytest.raises(ValueError, match="at least two weights"):
        sample(single)


class _Sum(keras.layers.Layer):
    def build(self, input_shape):
        self.factor = self.add_weight(shape=(1,), name="factor")

    def call(self, inputs):
        return self.factor * keras.ops.sum(inputs, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    "layer", [lambda: layers.DenseFlipout(2), lambda: layers.MCDropout(0.5)], ids=["Flipout", "MC"]
)
def test_random_models_are_refused(layer):
    random = keras.Sequential([keras.Input((3,)), layer(), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="is random"):
        sample(random)


@pytest.mark.parametrize(
    ("layer", "num_chains"),
    [(lambda: keras.layers.Conv1D(2, 2, activation="tanh"), 2), (lambda: keras.layers.LSTM(2), 1)],
    ids=["Conv1D", "LSTM"],
)
def test_convolutions_and_recurrent_layers(layer, num_chains):
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [keras.Input((3, 1)), layer(), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    x = _X[:6, :, None]
    posterior = sample(
        network,
        x,
        _Y[:6],
        num_chains=num_chains,
        num_results=25,
        num_burnin_steps=0,
        num_leapfrog_steps=1,
        step_size=0.1,
        jit_compile=False,
    )
    weights = [values[-1, -1] for values in posterior.samples]
    assert not np.array_equal(weights[0], posterior.samples[0][-1, 0])
    for variable, values in zip(network.trainable_variables, weights, strict=True):
        variable.assign(values)
    expected = ops.sum(noise(network(x)).log_prob(_Y[:6]))
    expected += sum(ops.sum(tfd.Normal(0.0, 1.0).log_prob(values)) for values in weights)
    np.testing.assert_allclose(posterior.sample_stats["lp"][-1, -1], expected, rtol=1e-4)


@pytest.mark.slow
def test_simulation_based_calibration(model):
    """Talts et al. (2018), arXiv:1804.06788: ranks of true weights among draws are uniform."""
    generator = np.random.default_rng(7)
    ranks = []
    for run in range(100):
        weights = generator.normal(size=4)
        x = generator.normal(size=(10, 3)).astype("float32")
        y = x @ weights[:3, None] + weights[3] + _NOISE * generator.normal(size=(10, 1))
        options = {"num_chains": 2, "num_results": 200, "num_burnin_steps": 200}
        found = sample(model, x, y.astype("float32"), initial="prior", seed=run, **options)
        draws = np.concatenate([found.samples[0][..., 0], found.samples[1]], axis=-1)
        thinned = draws.reshape(-1, 4)[np.linspace(0, 399, 19).astype(int)]
        ranks.append(np.sum(thinned < weights, axis=0))
    counts = np.bincount(np.ravel(ranks) // 4, minlength=5)  # 20 ranks in 5 bins
    statistic = np.sum((counts - 80.0) ** 2 / 80.0)
    p_value = float(tf.math.igammac(4 / 2, statistic / 2))
    assert p_value > 1e-3, f"p = {p_value}, counts {counts}"


_QUICK = {"epochs": 40, "num_members": 2, "num_samples": 20, "num_burnin_steps": 50}


@pytest.mark.filterwarnings("ignore:The energy varies")  # The warm-up is short.
@pytest.mark.parametrize("kind", quick([ProbabilisticRegressor, ProbabilisticClassifier], None))
def test_ensembles(kind):
    targets = _Y[:, 0] if kind is ProbabilisticRegressor else _Y[:, 0] > 0.0
    estimator = kind("mclmc", hidden_units=(8,), random_state=0, **_QUICK).fit(_X, targets)
    assert estimator.score(_X, targets) > 0.8
    twin = kind("mclmc", hidden_units=(8,), random_state=0, **_QUICK).fit(_X, targets)
    np.testing.assert_array_equal(twin.predict(_X), estimator.predict(_X))
    assert len(estimator.weights_[0]) == 20, "draws of all chains together"


def test_weights_of_rows_for_each_chain(model):
    """A chain whose weights leave rows out, and one that has them twice, are those of such data."""
    weights = np.stack([np.arange(40) < 20, 2.0 * (np.arange(40) < 20)])
    options = {"num_chains": 2, "num_results": 1500, "num_burnin_steps": 300}
    found = sample(model, sample_weight=weights, **options)
    for chain, rows in enumerate([np.arange(20), np.repeat(np.arange(20), 2)]):
        inputs = np.concatenate([_X, np.ones((40, 1))], axis=1).astype("float64")[rows]
        covariance = np.linalg.inv(inputs.T @ inputs / _NOISE**2 + np.eye(4))
        mean = covariance @ inputs.T @ _Y[rows, 0] / _NOISE**2
        deviations = np.sqrt(np.diag(covariance))
        draws = np.concatenate([found.samples[0][chain, :, :, 0], found.samples[1][chain]], axis=-1)
        np.testing.assert_allclose((draws.mean(0) - mean) / deviations, 0.0, atol=0.25)
        np.testing.assert_allclose(draws.std(0) / deviations, 1.0, atol=0.12)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(39), "`sample_weight` must have the shape"),
        (np.ones((3, 40)), "`sample_weight` must have the shape"),
        (np.full(40, np.nan), "`sample_weight` must be finite"),
        (-np.ones(40), "`sample_weight` must not be negative"),
        (np.zeros(40), "nor zero for all rows"),
    ],
)
def test_weights_of_rows_that_are_refused(model, weights, message):
    with pytest.raises(ValueError, match=message):
        sample(model, sample_weight=weights)
