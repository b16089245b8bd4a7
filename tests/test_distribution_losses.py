"""Scores of predicted distributions, as losses and as metrics, against integrals and by hand."""

import keras
import numpy as np
import pytest
from keras import ops
from probability import tfd
from tiers import quick

from keras_extras import layers, losses, metrics
from keras_extras._core.differentiation import value_and_gradients

pytestmark = pytest.mark.both_backends(cases=1)


Y = np.array([0.3, -1.2, 2.5], "float32")
LOC = np.array([0.0, 0.5, 2.0], "float32")
SCALE = np.array([1.0, 0.4, 2.0], "float32")
MIXTURE = tfd.MixtureSameFamily(
    tfd.Categorical(probs=[[0.3, 0.7]] * 3),
    tfd.Normal(np.stack([LOC, LOC + 2], 1), np.stack([SCALE, 0.5 * SCALE], 1)),
)


def integral(cdf, y):
    """The definition of the score, by the trapezoidal rule on both sides of the target."""
    below, above = np.linspace(y - 40, y, 200_001), np.linspace(y, y + 40, 200_001)
    return np.trapezoid(cdf(below) ** 2, below) + np.trapezoid((cdf(above) - 1) ** 2, above)


@pytest.mark.parametrize(
    "distribution",
    [tfd.Normal(LOC, SCALE), tfd.Laplace(LOC, SCALE), tfd.Logistic(LOC, SCALE), MIXTURE],
    ids=lambda d: d.name,
)
def test_closed_forms_equal_the_integral(distribution):
    actual = losses.ContinuousRankedProbabilityScore(reduction="none").call(Y, distribution)
    for row, y in enumerate(Y):
        expected = integral(lambda x, row=row: np.asarray(_cdf(distribution, x)[:, row]), y)
        assert float(actual[row]) == pytest.approx(expected, abs=2e-4)


def _cdf(distribution, x):
    return distribution.cdf(x[:, None].astype("float32"))


def test_crps_of_vectors_is_the_sum_over_entries():
    second = np.array([0.0, 0.5], "float32")
    y, loc, scale = (v[:, None] + second for v in (Y, LOC, SCALE))
    score = losses.ContinuousRankedProbabilityScore()
    expected = np.sum(score.call(y, tfd.Normal(loc, scale)), axis=1)
    independent = tfd.Independent(tfd.Normal(loc, scale), 1)
    np.testing.assert_allclose(score.call(y, independent), expected, rtol=1e-5)
    diagonal = tfd.MultivariateNormalDiag(loc, scale)
    np.testing.assert_allclose(score.call(y, diagonal), expected, rtol=1e-5)
    full = tfd.MultivariateNormalTriL(loc, np.array([[0.6, 0.0], [0.5, 0.4]], "float32"))
    marginals = tfd.Normal(loc, np.array([0.6, np.sqrt(0.41)], "float32"))
    np.testing.assert_allclose(
        score.call(y, full), np.sum(score.call(y, marginals), axis=1), rtol=1e-5
    )
    mixture = tfd.MixtureSameFamily(
        tfd.Categorical(probs=[[0.3, 0.7]] * 3),
        tfd.Independent(tfd.Normal(np.stack([loc, loc + 2], 1), np.stack([scale, scale], 1)), 1),
    )
    entries = [
        tfd.MixtureSameFamily(
            tfd.Categorical(probs=[[0.3, 0.7]] * 3),
            tfd.Normal(np.stack([loc, loc + 2], 1)[..., i], np.stack([scale, scale], 1)[..., i]),
        )
        for i in range(2)
    ]
    expected = sum(np.asarray(score.call(y[:, i], entry)) for i, entry in enumerate(entries))
    np.testing.assert_allclose(score.call(y, mixture), expected, rtol=1e-5)


def test_crps_of_a_single_point_is_the_absolute_error():
    narrow = tfd.Normal(LOC, 1e-6)
    np.testing.assert_allclose(
        losses.ContinuousRankedProbabilityScore().call(Y, narrow), np.abs(Y - LOC), atol=1e-5
    )


def test_estimate_from_draws_is_unbiased():
    """The mean of 400 estimates from 5 draws each lies within 4 standard errors."""
    y, loc, scale = (np.repeat(v[:1], 400) for v in (Y, LOC, SCALE))
    gumbel = tfd.Gumbel(loc, scale)
    loss = losses.ContinuousRankedProbabilityScore(5, seed=1)
    estimates = np.asarray(loss.call(y, gumbel))
    exact = integral(lambda x: np.exp(-np.exp(-(x - loc[0]) / scale[0])), y[0])
    z = (estimates.mean() - exact) / (estimates.std() / np.sqrt(len(estimates)))
    assert abs(z) < 4, f"z = {z:.2f}, estimate {estimates.mean():.4f}, exact {exact:.4f}"


def test_gradient_of_the_estimate():
    """Draws of one seed: the gradient is that of finite differences of the same estimate."""

    def score(loc):
        return losses.ContinuousRankedProbabilityScore(50, seed=1).call(Y, tfd.Gumbel(loc, SCALE))

    loc = ops.convert_to_tensor(LOC)
    _, (gradient,) = value_and_gradients(lambda values: score(*values), [loc])
    numeric = (np.asarray(score(loc + 0.01)) - np.asarray(score(loc - 0.01))) / 0.02
    np.testing.assert_allclose(gradient, numeric, atol=0.05)


def test_draws_without_gradient_are_refused_in_the_loss_not_in_the_metric():
    poisson = tfd.Poisson([2.0, 3.0, 4.0])
    y = np.array([1.0, 3.0, 9.0], "float32")
    with pytest.raises(ValueError, match=r"no gradient for .*NegativeLogLikelihood"):
        losses.ContinuousRankedProbabilityScore().call(y, poisson)
    metric = metrics.ContinuousRankedProbabilityScore(num_samples=4000, seed=2)
    metric.update_state(y, poisson)
    steps = np.arange(60.0)
    cdf = np.asarray(poisson.cdf(steps[:, None].astype("float32")))
    expected = np.mean(np.sum((cdf - (steps[:, None] >= y)) ** 2, axis=0))
    assert float(metric.result()) == pytest.approx(expected, rel=0.05)


def test_negative_log_likelihood():
    distribution = tfd.Normal(LOC, SCALE)
    loss = losses.NegativeLogLikelihood(reduction="none")
    for y in (Y, Y[:, None]):
        np.testing.assert_allclose(loss.call(y, distribution), -distribution.log_prob(Y))
    metric = metrics.NegativeLogLikelihood()
    metric.update_state(Y[:, None], distribution, sample_weight=[1.0, 0.0, 3.0])
    rows = -np.asarray(distribution.log_prob(Y))
    assert float(metric.result()) == pytest.approx((rows[0] + 3 * rows[2]) / 4, rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_beta_negative_log_likelihood(beta):
    y = np.stack([Y, -Y], 1)
    loc, scale = np.stack([LOC, LOC], 1), np.stack([SCALE, SCALE], 1)

    def value(loc, scale):
        distribution = tfd.Independent(tfd.Normal(loc, scale), 1)
        return losses.BetaNegativeLogLikelihood(beta).call(y, distribution)

    entries = -tfd.Normal(loc, scale).log_prob(y)
    expected = np.sum(scale ** (2 * beta) * entries, axis=1)
    np.testing.assert_allclose(value(loc, scale), expected, rtol=1e-5)
    at = [ops.convert_to_tensor(loc), ops.convert_to_tensor(scale)]
    _, (of_loc, of_scale) = value_and_gradients(lambda values: value(*values), at)
    # The weight has no gradient of its own: by hand, sigma^(2 beta) times that of the likelihood.
    weight, z = scale ** (2 * beta), (y - loc) / scale
    np.testing.assert_allclose(of_loc, -weight * z / scale, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_scale, weight * (1 - z**2) / scale, rtol=1e-4, atol=1e-5)


def test_beta_needs_entries_of_their_own():
    joint = tfd.MultivariateNormalTriL([[0.0, 0.0]], [[1.0, 0.0], [0.5, 1.0]])
    with pytest.raises(ValueError, match="independent entries"):
        losses.BetaNegativeLogLikelihood().call(np.zeros((1, 2), "float32"), joint)
    with pytest.raises(ValueError, match=r"`beta` must be at least 0 and at most 1"):
        losses.BetaNegativeLogLikelihood(beta=1.5)
    with pytest.raises(ValueError, match="`num_samples` must be at least 2"):
        losses.ContinuousRankedProbabilityScore(num_samples=1)


ALL = [
    losses.NegativeLogLikelihood,
    losses.ContinuousRankedProbabilityScore,
    losses.BetaNegativeLogLikelihood,
    metrics.NegativeLogLikelihood,
    metrics.ContinuousRankedProbabilityScore,
    metrics.IntervalCoverage,
    metrics.IntervalWidth,
]


@pytest.mark.parametrize(
    "cls", ALL, ids=lambda cls: f"{cls.__module__.split('.')[1]}.{cls.__name__}"
)
def test_bad_predictions_and_targets(cls):
    score = cls()
    apply = score if isinstance(score, keras.losses.Loss) else score.update_state
    with pytest.raises(TypeError, match=rf"{cls.__name__} needs a model whose output is a dist"):
        apply(Y, ops.zeros(3))
    rv = layers.IndependentNormal((2,))(np.zeros((3, 4), "float32"))
    with pytest.raises(ValueError, match=rf"{cls.__name__} cannot pair targets of shape \(3, 4\)"):
        apply(np.zeros((3, 4), "float32"), rv)


@pytest.mark.parametrize("jit_compile", quick([False, True], True))
@pytest.mark.parametrize("loss", ALL[:3], ids=lambda cls: cls.__name__)
def test_training(loss, jit_compile):
    x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
    y = x[:, 0] - 1.0
    head = layers.IndependentNormal()
    if loss is losses.ContinuousRankedProbabilityScore and jit_compile:  # from draws
        head = layers.DistributionLambda(lambda t: tfd.Gumbel(t[:, 0], ops.exp(t[:, 1])))
    model = keras.Sequential([keras.layers.Dense(2), head])
    model.compile(
        keras.optimizers.Adam(0.05),
        loss(),
        metrics=[metric() for metric in ALL[3:]],
        weighted_metrics=[metrics.NegativeLogLikelihood(name="weighted_nll")],
        jit_compile=jit_compile,
    )
    weights = np.ones(64)
    history = model.fit(x, y, sample_weight=weights, epochs=15, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["crps"][-1] < history["crps"][0]
    assert all(np.isfinite(values).all() for values in history.values())
    values = model.evaluate(x, y[:, None], verbose=0, return_dict=True)
    assert values["nll"] == pytest.approx(-float(np.mean(model(x).log_prob(y))), rel=1e-4)


def test_losses_and_metrics_of_one_name_are_both_found():
    for thing in (losses.NegativeLogLikelihood(), metrics.NegativeLogLikelihood()):
        config = keras.saving.serialize_keras_object(thing)
        assert type(keras.saving.deserialize_keras_object(config)) is type(thing)


def test_many_draws_do_not_overflow():
    gamma = tfd.Gamma(2.0, [1.0])
    few, many = (
        float(
            losses.ContinuousRankedProbabilityScore(num_samples=n, seed=1).call(
                np.array([3.0]), gamma
            )[0]
        )
        for n in (20_000, 50_000)
    )
    assert many == pytest.approx(few, rel=0.02)


def test_another_dtype_than_that_of_distributions_is_told():
    with pytest.raises(ValueError, match=r"must be that of the distributions, 'float32'.*float64"):
        losses.NegativeLogLikelihood(dtype="float64")
