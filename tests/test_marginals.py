"""Where distributions are nested, tied, heavy-tailed, skewed or far from zero."""

import keras
import numpy as np
import pytest
from precision import ON_JAX
from probability import compiled, tfd
from tiers import quick

from keras_extras import layers, losses, metrics
from keras_extras._core.quantiles import quantile

pytestmark = pytest.mark.both_backends(cases=0)

stats = pytest.importorskip("scipy.stats")

ZEROS = np.zeros((3, 2), "float32")
APART = np.array([0.0, 2.0], "float32")
WEIGHTS = np.array([0.3, 0.7], "float32")


def wrapped(make):
    return layers.DistributionLambda(make)(ZEROS)


@pytest.mark.parametrize("family", [tfd.Normal, tfd.Laplace, tfd.Logistic])
@pytest.mark.parametrize(
    "loss", [losses.ContinuousRankedProbabilityScore, losses.BetaNegativeLogLikelihood]
)
def test_nested_distributions_score_as_the_plain_ones(family, loss):
    plain = tfd.Independent(family(ZEROS, 2.0), 1)
    nested = tfd.Independent(wrapped(lambda t: family(t, 2.0)), 1)
    twice = tfd.Independent(tfd.Independent(family(ZEROS[..., None], 2.0), 1), 1)
    assert ON_JAX or not isinstance(nested, tfd.Independent), "TFP has no other class for it"
    expected = loss().call(ZEROS + 1.5, plain)
    np.testing.assert_allclose(loss().call(ZEROS + 1.5, nested), expected, rtol=1e-6)
    np.testing.assert_allclose(loss().call(ZEROS[..., None] + 1.5, twice), expected, rtol=1e-6)


def test_mixture_of_a_nested_distribution_has_a_closed_form():
    components = wrapped(lambda t: tfd.Normal(t + APART, 1.0))
    mixture = tfd.Categorical(probs=[WEIGHTS] * 3)
    expected = tfd.MixtureSameFamily(mixture, tfd.Normal(ZEROS + APART, 1.0))
    loss = losses.ContinuousRankedProbabilityScore()
    np.testing.assert_allclose(
        loss.call(ZEROS[:, 0], tfd.MixtureSameFamily(mixture, components)),
        loss.call(ZEROS[:, 0], expected),
        rtol=1e-6,
    )


def test_estimate_far_from_zero():
    def score(loc):
        loc = np.full(3, loc, "float32")
        return losses.ContinuousRankedProbabilityScore(seed=1).call(loc, tfd.Gumbel(loc, 1.0))

    # Draws are rounded to 0.06 there; their order must not multiply that.
    np.testing.assert_allclose(score(1e6), score(0.0), rtol=0.02)


MIXTURES = {
    "gamma": (tfd.Gamma([0.1, 3.0], 1.0), stats.gamma([0.1, 3.0])),
    "beta": (tfd.Beta([0.9, 1.2], [0.85, 1.2]), stats.beta([0.9, 1.2], [0.85, 1.2])),
    "log_normal": (tfd.LogNormal([0.0, 1.0], [1.0, 0.5]), stats.lognorm([1, 0.5], 0, [1, np.e])),
    "student_t": (tfd.StudentT(1.5, [0.0, 3.0], 1.0), stats.t(1.5, [0.0, 3.0])),
    "cauchy": (tfd.Cauchy([0.0, 3.0], 1.0), stats.cauchy([0.0, 3.0])),
    "narrow": (tfd.Normal([0.0, 1e-6], 1e-6), stats.norm([0.0, 1e-6], 1e-6)),
    "poisson": (tfd.Poisson([1.0, 30.0]), stats.poisson([1.0, 30.0])),
}


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("probability", quick([0.05, 0.5, 0.95], 0.95))
@pytest.mark.parametrize("jit_compile", quick([False, True], False))
def test_quantiles_of_mixtures(name, probability, jit_compile):
    components, expected = MIXTURES[name]
    mixture = tfd.MixtureSameFamily(tfd.Categorical(probs=WEIGHTS), components)
    value = float(compiled(lambda: quantile(mixture, probability), jit_compile)())

    def cdf(y):
        return WEIGHTS @ expected.cdf(y)

    if name == "poisson":
        assert cdf(value - 1) < probability <= cdf(value)
    else:
        # Of the position, not of the probability: that of gamma rises steeply from zero.
        tolerance = 1e-4 * np.ptp(expected.ppf(probability))
        assert cdf(value - tolerance) < probability < cdf(value + tolerance)
        assert value >= np.min(expected.support()[0])


def test_median_of_beta():
    """TFP's own is 0.676."""
    beta = tfd.Beta([0.9752114], [0.9118264])
    np.testing.assert_allclose(quantile(beta, 0.5), stats.beta(0.9752114, 0.9118264).median(), 1e-4)


@pytest.mark.parametrize("level", [0.5, 0.8])
def test_an_interval_covers_what_lies_between_its_quantiles(level):
    """Also where a distribution function reaches the probability exactly."""
    for distribution, expected in (
        (tfd.Bernoulli(probs=[0.25]), stats.bernoulli(0.25)),
        (tfd.Categorical(probs=[[0.25] * 4]), stats.randint(0, 4)),
        (tfd.Poisson([3.0]), stats.poisson(3.0)),
    ):
        low, high = expected.ppf([(1 - level) / 2, (1 + level) / 2])
        for y in range(int(expected.ppf(0.999)) + 1):
            metric = metrics.IntervalCoverage(level)
            metric.update_state([float(y)], distribution)
            assert float(metric.result()) == (low <= y <= high), f"{distribution} at {y}"


def test_width_of_labels_and_of_one_distribution_for_all_rows():
    metric = metrics.IntervalWidth()
    metric.update_state([[0.0, 1.0]], tfd.OneHotCategorical(probs=[[0.5, 0.5]]))
    assert float(metric.result()) == 1.0
    metric = metrics.IntervalWidth()
    metric.update_state(np.zeros(3), tfd.Normal(0.0, 1.0), sample_weight=[1.0, 0.0, 2.0])
    metric.update_state(np.zeros(1), tfd.Normal(0.0, 2.0))
    assert float(metric.result()) == pytest.approx((3 + 2) / 4 * 2 * stats.norm.ppf(0.95), rel=1e-4)


def test_masked_steps_do_not_count():
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 5, 2)), rng.normal(size=(4, 5, 1))
    x[0, 2:] = 0.0
    x[1, 3:] = 0.0
    model = keras.Sequential(
        [keras.layers.Masking(), keras.layers.Dense(2), layers.IndependentNormal()]
    )
    model.compile(loss=losses.NegativeLogLikelihood(), metrics=[metrics.NegativeLogLikelihood()])
    values = model.evaluate(x, y, verbose=0, return_dict=True)
    rows = -np.asarray(model(x).log_prob(y[..., 0].astype("float32")))
    kept = rows[np.any(x != 0, axis=-1)].mean()
    assert abs(kept - rows.mean()) > 1e-3, "The mask makes no difference"
    assert values["nll"] == pytest.approx(kept, rel=1e-5)
    assert values["loss"] == pytest.approx(kept, rel=1e-5)


def test_confidences_at_the_edge_of_a_bin_belong_to_the_lower_one():
    metric = metrics.ExpectedCalibrationError(num_bins=4)
    metric.update_state([1, 0], np.array([[0.75, 0.25], [0.875, 0.125]], "float32"))
    assert float(metric.result()) == pytest.approx((0.75 + 0.125) / 2)


@pytest.mark.parametrize(
    "distribution",
    [
        tfd.Independent(tfd.Bernoulli(probs=np.full((3, 3), 0.8, "float32")), 1),
        tfd.Categorical(probs=[0.2, 0.3, 0.5]),
        tfd.OneHotCategorical(probs=np.full((3, 2, 3), 1 / 3, "float32")),
    ],
    ids=["several labels", "no rows", "several labels one-hot"],
)
def test_one_prediction_of_classes_for_each_row(distribution):
    with pytest.raises(ValueError, match="must be one for each row"):
        metrics.ExpectedCalibrationError().update_state([0, 1, 2], distribution)
