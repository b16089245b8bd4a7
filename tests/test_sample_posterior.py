"""Posteriors of weights by Markov chains, and what is done with their draws."""

import sys

import keras
import numpy as np
import pytest
from precision import ON_JAX
from probability import tf, tfd
from tiers import quick

import keras_extras
from keras_extras import layers
from keras_extras.inference import Posterior, sample_posterior
from keras_extras.inference.sample_posterior import _targets

pytestmark = pytest.mark.both_backends(cases=1)


_NOISE = 0.5


def make_data(rows=40, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.3], [0, 0, 1]])
    y = x @ [[1.0], [-2.0], [0.5]] + _NOISE * generator.normal(size=(rows, 1))
    return x.astype("float32"), y.astype("float32")


_X, _Y = make_data()


def noise(outputs):
    return tfd.Independent(tfd.Normal(outputs, _NOISE), 1)


def known_posterior(prior_scale=1.0):
    precision = _X.T @ _X / _NOISE**2 + np.eye(3) / prior_scale**2
    covariance = np.linalg.inv(precision.astype("float64"))
    return covariance @ (_X.T @ _Y / _NOISE**2)[:, 0], covariance


@pytest.fixture(scope="module")
def linear_model():
    keras.utils.set_random_seed(20)  # Made before those of a single test are set.
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])


def sample(model, **arguments):
    options = {"likelihood": noise, "num_burnin_steps": 300, "seed": 1, "verbose": 0}
    return sample_posterior(model, _X, _Y, **{**options, **arguments})


@pytest.fixture(scope="module")
def posterior(linear_model):
    return sample(linear_model)


def effective_samples(posterior):
    return np.asarray(posterior.summary()["ess_bulk"])


def check_against(posterior, mean, covariance):
    draws = posterior.samples[0][..., 0]
    error = np.sqrt(np.diag(covariance) / effective_samples(posterior))
    z = np.abs(draws.mean((0, 1)) - mean) / error
    assert z.max() < 4.0, f"the largest |z| is {z.max()}"
    ratio = draws.var((0, 1)) / np.diag(covariance)
    assert np.abs(ratio - 1.0).max() < 0.1, f"variances are {ratio} times those known"


@pytest.mark.parametrize("kernel", quick(["nuts", "hmc"], "nuts"))
@pytest.mark.parametrize("initial", quick(["weights", "prior"], "weights"))
def test_the_known_posterior_of_a_linear_model(linear_model, kernel, initial):
    before = [np.array(variable) for variable in linear_model.weights]
    posterior = sample(linear_model, kernel=kernel, initial=initial, num_results=1500)
    check_against(posterior, *known_posterior())
    for variable, value in zip(linear_model.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize(
    ("prior", "scale"),
    [
        ("scaled_normal", 3**-0.5),
        (tfd.Normal(0.0, 0.2), 0.2),
        ({"*kernel": tfd.Normal(0.0, 0.2)}, 0.2),
        ({"*": "standard_normal"}, 1.0),
    ],
    ids=["scaled_normal", "distribution", "pattern", "name of a pattern"],
)
def test_priors(linear_model, prior, scale):
    check_against(sample(linear_model, prior=prior), *known_posterior(scale))


def test_a_second_call_compiles_nothing_anew(linear_model, posterior):
    sample(linear_model)
    target = _targets[linear_model][1]
    x, y = make_data(seed=3)
    twin, other = (
        sample_posterior(linear_model, x, y, likelihood=noise, num_results=50, seed=s, verbose=0)
        for s in (1, 2)
    )
    assert _targets[linear_model][1] is target
    if not ON_JAX:
        assert target.chains._advance.experimental_get_tracing_count() == 1
    assert not np.array_equal(twin.samples[0], other.samples[0])


@pytest.mark.slow
def test_simulation_based_calibration(linear_model):
    """Talts et al. (2018), arXiv:1804.06788: ranks of true weights among draws are uniform."""
    assert rank_p_value(linear_model, noise) > 1e-3


@pytest.mark.slow
def test_a_posterior_that_is_too_sure_fails_the_calibration():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])

    def too_sure(outputs):
        return tfd.Independent(tfd.Normal(outputs, 0.5 * _NOISE), 1)

    assert rank_p_value(model, too_sure) < 1e-3


def rank_p_value(model, likelihood, runs=100, draws=19):
    """The p-value of the chi-squared test of uniform ranks, all weights together."""
    generator = np.random.default_rng(7)
    ranks = []
    for run in range(runs):
        weights = generator.normal(size=(3, 1))
        x = generator.normal(size=(10, 3)).astype("float32")
        y = (x @ weights + _NOISE * generator.normal(size=(10, 1))).astype("float32")
        posterior = sample_posterior(
            model,
            x,
            y,
            likelihood=likelihood,
            num_chains=2,
            num_results=200,
            num_burnin_steps=150,
            initial="prior",
            seed=run,
            verbose=0,
        )
        flat = posterior.samples[0].reshape(-1, 3, 1)
        thinned = flat[np.linspace(0, len(flat) - 1, draws).astype(int)]
        ranks.append(np.sum(thinned < weights, axis=0)[:, 0])
    counts = np.bincount(np.ravel(ranks) // 4, minlength=5)  # 20 ranks in 5 bins
    statistic = np.sum((counts - 60.0) ** 2 / 60.0)
    return float(tf.math.igammac(4 / 2, statistic / 2))  # chi-squared of 4 degrees of freedom


@pytest.mark.parametrize(
    ("head", "targets"),
    [
        (layers.IndependentNormal, _Y),
        pytest.param(
            lambda _: layers.OneHotCategorical(2),
            np.eye(2, dtype="float32")[(_Y[:, 0] > 0) * 1],
            marks=pytest.mark.slow,
        ),
        (lambda _: layers.Categorical(2), (_Y[:, 0] > 0).astype("int32")),
    ],
    ids=["IndependentNormal", "OneHotCategorical", "Categorical"],
)
def test_the_head_of_a_model_is_its_likelihood(head, targets):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), head(1)])
    posterior = sample_posterior(
        model, _X, targets, num_results=100, num_burnin_steps=200, seed=1, verbose=0
    )
    prediction = posterior.predict_distribution(_X)
    likelihood = np.mean(prediction.log_prob(targets))
    assert likelihood > -1.2, f"the mean log-likelihood is {likelihood}"


def test_predictions_from_draws(linear_model, posterior):
    mean, covariance = known_posterior()
    prediction = posterior.predict_distribution(_X, num_samples=4000)
    np.testing.assert_allclose(prediction.mean()[:, 0], _X @ mean, atol=0.02)
    expected = np.einsum("ni,ij,nj->n", _X, covariance, _X)
    np.testing.assert_allclose(prediction.epistemic_variance()[:, 0], expected, rtol=0.15)
    np.testing.assert_allclose(prediction.aleatoric_variance(), _NOISE**2, rtol=1e-4)
    assert posterior.predict_distribution(_X, num_samples=10**9).num_samples == 4000
    via_function = keras_extras.predict_distribution(posterior, _X, num_samples=50)
    np.testing.assert_allclose(
        via_function.mean(), posterior.predict_distribution(_X, num_samples=50).mean()
    )


def test_arviz(posterior):
    data = posterior.to_arviz()
    assert data.posterior.sizes["chain"] == 4
    assert list(data.posterior.data_vars) == [posterior.model.trainable_variables[0].path]
    assert bool(np.all(data.sample_stats["diverging"] == 0))
    table = posterior.summary()
    assert len(table) == 3
    assert table["r_hat"].max() < 1.02
    assert table.attrs["divergences"] == 0


def test_without_arviz_the_error_names_the_command(posterior, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r'pip install "keras-extras\[inference\]"'):
        posterior.summary()


def test_save_and_load(posterior, tmp_path):
    path = tmp_path / "posterior.npz"
    path.write_bytes(b"an older file")
    posterior.save(path)
    loaded = Posterior.load(path, posterior.model, noise)
    np.testing.assert_array_equal(loaded.samples[0], posterior.samples[0])
    for name, values in posterior.sample_stats.items():
        np.testing.assert_array_equal(loaded.sample_stats[name], values)
    assert [file.name for file in tmp_path.iterdir()] == ["posterior.npz"]


def test_a_failed_save_leaves_the_old_file(posterior, tmp_path, monkeypatch):
    path = tmp_path / "posterior.npz"
    posterior.save(path)
    before = path.read_bytes()

    def fail(*arguments, **keywords):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        posterior.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["posterior.npz"]


def test_files_that_do_not_fit(posterior, tmp_path):
    path = tmp_path / "posterior.npz"
    posterior.save(path)
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="`samples` must have shapes"):
        Posterior.load(path, other)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="not whole"):
        Posterior.load(path, posterior.model)
    with pytest.raises(FileNotFoundError):
        Posterior.load(tmp_path / "nothing.npz", posterior.model)


def test_divergent_transitions_are_counted_and_advice_given(linear_model):
    with pytest.warns(UserWarning, match=r"100 of 100 transitions diverged.*target_accept_prob"):
        sample(
            linear_model,
            kernel="hmc",
            num_burnin_steps=0,
            num_results=25,
            step_size=100.0,
        )


def random_model(layer):
    return keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(1)])


@pytest.mark.parametrize(
    "layer", [lambda: layers.DenseFlipout(2), lambda: layers.MCDropout(0.5)], ids=["Flipout", "MC"]
)
def test_random_models_are_refused(layer):
    with pytest.raises(ValueError, match="is random"):
        sample(random_model(layer()))


def test_dropout_of_keras_is_no_randomness():
    sample(random_model(keras.layers.Dropout(0.5)), num_results=5, num_burnin_steps=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"likelihood": None}, "has no likelihood"),
        ({"kernel": "gibbs"}, "`kernel` must be one of"),
        ({"initial": "zero"}, "`initial` must be one of"),
        ({"initial": [np.zeros((2, 3, 1))]}, r"`initial` must have arrays of the shapes"),
        ({"prior": "wide"}, "`prior` must be one of"),
        ({"prior": {"*bias": "standard_normal"}}, "matches none of"),
        ({"prior": {}}, "`prior` must have a pattern for each weight"),
        ({"prior": tfd.Normal([0.0, 1.0], 1.0)}, "one of a single number"),
        ({"num_results": 0}, "`num_results` must be at least 1"),
        ({"num_burnin_steps": -1}, "`num_burnin_steps` must be at least 0"),
        ({"target_accept_prob": 1.0}, r"`target_accept_prob` must lie in \(0, 1\)"),
        ({"step_size": 0.0}, "`step_size` must be greater than 0"),
    ],
)
def test_bad_arguments(linear_model, arguments, message):
    with pytest.raises(ValueError, match=message):
        sample(linear_model, **arguments)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.zeros((40, 2), "float32"), "cannot pair targets"),
        (np.zeros((39, 1), "float32"), "cannot pair targets"),
        (np.full((40, 1), np.nan, "float32"), "must be finite"),
    ],
)
def test_bad_targets(linear_model, targets, message):
    with pytest.raises(ValueError, match=message):
        sample_posterior(linear_model, _X, targets, likelihood=noise, verbose=0)


def test_a_model_that_was_never_built():
    model = keras.Sequential([keras.layers.Dense(1)])
    posterior = sample(model, num_results=5, num_burnin_steps=0)  # the data build it
    assert [values.shape for values in posterior.samples] == [(4, 5, 3, 1), (4, 5, 1)]


def test_samples_that_do_not_fit_the_model(linear_model):
    with pytest.raises(ValueError, match="`samples` must have shapes"):
        Posterior(linear_model, [np.zeros((2, 5, 4, 1))])


def test_the_samples_of_an_optimizer():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    optimizer = keras_extras.optimizers.SGLD(0.01, num_samples=4, thinning_steps=1, seed=1)
    model.compile(optimizer, "mse")
    model.fit(_X, _Y, batch_size=10, epochs=2, verbose=0)
    posterior = Posterior.from_optimizer(model, noise)
    assert posterior.samples[0].shape == (1, 4, 3, 1)
    np.testing.assert_array_equal(posterior.samples[0][0, -1], model.layers[0].kernel)
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match="an optimizer that learns a posterior"):
        Posterior.from_optimizer(model)


def test_nan_in_the_inputs_is_not_taken_for_randomness():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.1), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="must be finite"):
        sample_posterior(model, np.full_like(_X, np.nan), _Y, likelihood=noise, verbose=0)


def test_a_backup_begins_once_the_data_are_right(tmp_path, linear_model):
    options = {"num_results": 10, "num_burnin_steps": 10, "num_chains": 2, "seed": 1, "verbose": 0}
    options |= {"likelihood": noise, "backup_dir": tmp_path / "backup"}
    with pytest.raises(ValueError, match="must be finite"):
        sample_posterior(linear_model, _X, np.full_like(_Y, np.nan), **options)
    sample_posterior(linear_model, _X, _Y, **options)


def test_a_posterior_is_gone_on_with_from_where_it_adapted(linear_model, posterior, tmp_path):
    posterior.save(tmp_path / "draws.npz")
    loaded = Posterior.load(tmp_path / "draws.npz", linear_model)
    deviations = posterior.samples[0].std((0, 1))
    np.testing.assert_allclose(loaded.scales[0], deviations, rtol=0.3)
    assert loaded.step_size == posterior.sample_stats["step_size"][0, -1]
    more = sample(linear_model, initial=loaded, num_burnin_steps=0, num_results=200)
    np.testing.assert_allclose(more.sample_stats["step_size"], loaded.step_size)
    assert more.sample_stats["acceptance_rate"].mean() > 0.6
    assert not more.sample_stats["diverging"].any()
    move = np.abs(more.samples[0].mean((0, 1)) - posterior.samples[0].mean((0, 1)))
    assert (move < 0.5 * deviations).all()


def test_the_log_likelihood_of_each_row_in_arviz(linear_model, posterior):
    arviz = pytest.importorskip("arviz")
    data = posterior.to_arviz(_X[:10], _Y[:10], batch_size=4)
    kernel = posterior.samples[0][2, 7]
    expected = noise(_X[:10] @ kernel).log_prob(_Y[:10])
    received = data.log_likelihood["y"][2, 7]
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)
    assert np.isfinite(arviz.loo(data).elpd_loo)
    assert np.isfinite(arviz.waic(data).elpd_waic)
    with pytest.raises(ValueError, match="given together"):
        posterior.to_arviz(_X)


def test_predictions_are_in_the_order_of_chains_and_draws(posterior):
    chains, draws = posterior.num_chains, posterior.num_results
    predictive = posterior.predict_distribution(_X[:2], num_samples=chains * draws)
    means = np.reshape(predictive.components_distribution.mean(), (2, chains, draws))
    expected = _X[:2] @ posterior.samples[0][3, 5]
    np.testing.assert_allclose(means[:, 3, 5], expected[:, 0], rtol=1e-4, atol=1e-5)
