"""Coverage and width of intervals, quantiles, and the calibration of classifiers."""

import keras
import numpy as np
import pytest
from precision import WIDE
from probability import compiled, tfb, tfd
from tiers import quick

from keras_extras import layers, metrics
from keras_extras._core.distribution_kinds import is_discrete
from keras_extras._core.marginals import entrywise
from keras_extras._core.quantiles import quantile

pytestmark = pytest.mark.both_backends(cases=1)

stats = pytest.importorskip("scipy.stats")

KNOWN = [
    (tfd.Poisson([0.3, 2.0, 30.0]), stats.poisson([0.3, 2.0, 30.0])),
    (tfd.NegativeBinomial([3.0, 1.0], probs=[0.4, 0.9]), stats.nbinom([3, 1], [0.6, 0.1])),
    (tfd.Bernoulli(probs=[0.2, 0.96], dtype="float32"), stats.bernoulli([0.2, 0.96])),
    (tfd.Normal([0.0, 3.0], [1.0, 2.0]), stats.norm([0, 3], [1, 2])),
    (tfd.StudentT([3.0, 2.5], 0.0, 1.0), stats.t([3, 2.5])),
    (tfd.Gamma([0.5, 3.0], 1.0), stats.gamma([0.5, 3])),
    (tfd.Laplace([0.0, 1.0], 2.0), stats.laplace([0, 1], 2)),
]


@pytest.mark.parametrize(("distribution", "expected"), KNOWN, ids=lambda d: getattr(d, "name", ""))
@pytest.mark.parametrize("probability", quick([0.05, 0.31, 0.5, 0.95], 0.31))
def test_quantiles(distribution, expected, probability):
    for jit_compile in (False, True):
        actual = compiled(lambda: quantile(distribution, probability), jit_compile)()
        np.testing.assert_allclose(actual, expected.ppf(probability), rtol=1e-4, atol=1e-5)


def test_quantiles_of_vectors():
    loc = np.array([[0.0, 1.0, 5.0], [2.0, 3.0, -4.0]], "float32")
    mixture = tfd.MixtureSameFamily(
        tfd.Categorical(probs=[0.3, 0.7]), tfd.Independent(tfd.Normal(loc, 0.5), 1)
    )
    values = quantile(mixture, 0.2)
    expected = 0.3 * stats.norm(loc[0], 0.5).cdf(values) + 0.7 * stats.norm(loc[1], 0.5).cdf(values)
    np.testing.assert_allclose(expected, 0.2, atol=1e-4)
    np.testing.assert_allclose(entrywise("cdf", mixture, values), 0.2, atol=1e-4)
    joint = tfd.MultivariateNormalTriL([1.0, 2.0], [[0.6, 0.0], [0.5, 0.4]])
    expected = stats.norm([1, 2], [0.6, np.sqrt(0.41)]).ppf(0.9)
    np.testing.assert_allclose(quantile(joint, 0.9), expected, rtol=1e-4)


def test_quantiles_of_transformed_entries():
    skewed = tfd.SinhArcsinh(loc=[0.0, 5.0], scale=1.0)
    of_one_entry = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag([[0.0, 0.0]]), tfb.Sigmoid()
    )
    assert quantile(skewed, 0.5).shape == (2,)
    np.testing.assert_allclose(quantile(of_one_entry, 0.5), [[0.5, 0.5]], atol=1e-6)


@pytest.mark.parametrize(
    ("distribution", "discrete"),
    [
        (tfd.Poisson(1.0), True),
        (tfd.Independent(tfd.Bernoulli([0.0]), 1), True),
        (tfd.Inflated(tfd.Poisson(1.0), 0.0), True),
        (tfd.Categorical([0.0, 0.0]), True),
        (tfd.MixtureSameFamily(tfd.Categorical([0.0, 0.0]), tfd.Poisson([1.0, 2.0])), True),
        (tfd.MixtureSameFamily(tfd.Categorical([0.0, 0.0]), tfd.Normal([1.0, 2.0], 1.0)), False),
        (tfd.Gamma(1.0, 1.0), False),
        (tfd.MultivariateNormalDiag([0.0]), False),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_discrete_distributions_are_told_apart(distribution, discrete):
    assert is_discrete(distribution) == discrete


@pytest.mark.parametrize(("distribution", "expected"), KNOWN, ids=lambda d: getattr(d, "name", ""))
@pytest.mark.parametrize("level", quick([0.5, 0.9], 0.9))
def test_coverage_and_width(distribution, expected, level):
    low, high = expected.ppf((1 - level) / 2), expected.ppf((1 + level) / 2)
    width = metrics.IntervalWidth(level)
    y = np.zeros(len(low), "float32")
    width.update_state(y, distribution)
    assert float(width.result()) == pytest.approx(np.mean(high - low), rel=1e-4, abs=1e-5)
    # Both ends belong to the interval; a little beyond them does not.
    step = 1.0 if is_discrete(distribution) else 1e-3
    for y, share in ((low, 1), (high, 1), (low - step, 0), (high + step, 0)):
        if is_discrete(distribution) and not expected.pmf(y).all():
            continue  # no value of the distribution
        inward = 0.0 if is_discrete(distribution) else 1e-4 * (1 if (y <= low).all() else -1)
        coverage = metrics.IntervalCoverage(level)
        coverage.update_state((y + inward).astype("float32"), distribution)
        assert float(coverage.result()) == share, f"{y} in [{low}, {high}]"


def test_coverage_of_calibrated_predictions():
    """Draws of the predictions themselves: the share within 4 binomial standard errors."""
    rng = np.random.default_rng(1)
    n, level = 20_000, 0.8
    loc, scale = rng.normal(size=n), rng.uniform(0.5, 2.0, size=n)
    distribution = tfd.Normal(loc.astype("float32"), scale.astype("float32"))
    coverage = metrics.IntervalCoverage(level)
    coverage.update_state(rng.normal(loc, scale), distribution)
    z = (float(coverage.result()) - level) / np.sqrt(level * (1 - level) / n)
    assert abs(z) < 4, f"z = {z:.2f}"
    with pytest.raises(ValueError, match=r"`level` must lie in \(0, 1\). Received: level=1.0"):
        metrics.IntervalCoverage(1.0)


def test_coverage_from_draws():
    distribution = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(np.zeros((3, 1), "float32")), tfb.Sigmoid()
    )
    coverage = metrics.IntervalCoverage(0.9)
    coverage.update_state([[0.5], [0.01], [0.99]], distribution)
    assert float(coverage.result()) == pytest.approx(1 / 3)


def expected_calibration_error(probabilities, labels, weights, num_bins):
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    total = 0.0
    for b in range(num_bins):
        w = weights * (index == b)
        total += abs(np.sum(w * (correct - confidence)))
    return total / weights.sum()


@pytest.mark.parametrize("classes", [2, 4])
def test_expected_calibration_error(classes):
    rng = np.random.default_rng(2)
    logits = 2.0 * rng.normal(size=(200, classes)).astype("float32")
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = rng.integers(classes, size=200)
    weights = rng.uniform(size=200)
    expected = expected_calibration_error(probabilities, labels, weights, 8)
    one_hot = np.eye(classes)[labels]
    forms = [
        (labels, probabilities),
        (labels[:, None], probabilities),
        (one_hot, probabilities),
        (labels, layers.Categorical(classes)(logits)),
        (one_hot, layers.OneHotCategorical(classes)(logits)),
    ]
    if classes == 2:
        score = logits[:, 1:] - logits[:, :1]
        forms += [
            (labels, probabilities[:, 1]),
            (labels[:, None], probabilities[:, 1:]),
            (labels, layers.IndependentBernoulli()(score)),
            (labels[:, None], layers.IndependentBernoulli((1,))(score)),
        ]
    for y_true, y_pred in forms:
        metric = metrics.ExpectedCalibrationError(num_bins=8)
        metric.update_state(y_true, y_pred, sample_weight=weights)
        assert float(metric.result()) == pytest.approx(expected, rel=1e-4)


def test_calibration_error_of_a_mixture():
    layer = layers.CategoricalMixtureOfOneHotCategorical(3, 2)
    rv = layer(np.random.default_rng(1).normal(size=(50, layer.num_params)).astype("float32"))
    labels = np.arange(50) % 3
    metric = metrics.ExpectedCalibrationError()
    metric.update_state(labels, rv)
    expected = expected_calibration_error(np.asarray(rv.mean()), labels, np.ones(50), 15)
    assert float(metric.result()) == pytest.approx(expected, rel=1e-4)


def test_calibration_error_in_a_model():
    x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    model = keras.Sequential([keras.layers.Dense(2), layers.Categorical(2, "logits")])
    model.compile(
        "adam",
        lambda y, rv_y: -rv_y.log_prob(y),
        metrics=[metrics.ExpectedCalibrationError()],
        jit_compile=True,
    )
    model.fit(x, y, verbose=0)
    probabilities = np.asarray(model(x).probs_parameter())
    expected = expected_calibration_error(probabilities, y, np.ones(64), 15)
    assert model.evaluate(x, y, verbose=0)[1] == pytest.approx(expected, rel=1e-4)


def test_wrong_classes():
    metric = metrics.ExpectedCalibrationError()
    with pytest.raises(TypeError, match="probabilities, or a distribution `Bernoulli`"):
        metric.update_state([0, 1], tfd.Normal([0.0, 1.0], 1.0))
    with pytest.raises(ValueError, match=r"shape \(n,\), \(n, 1\) or \(n, classes\)"):
        metric.update_state([0, 1], np.zeros((2, 2, 2), "float32"))
    with pytest.raises(ValueError, match="`y_true` must hold labels"):
        metric.update_state(np.zeros((2, 3)), np.zeros((2, 2), "float32"))
    with pytest.raises(ValueError, match="`num_bins` must be at least 1"):
        metrics.ExpectedCalibrationError(num_bins=0)


def test_predictions_of_no_weight_may_be_nan():
    metric = metrics.ExpectedCalibrationError(num_bins=4)
    metric.update_state([1, 0, 1], [0.9, 0.2, np.nan], sample_weight=[1.0, 1.0, 0.0])
    assert np.isfinite(float(metric.result()))


@pytest.mark.parametrize(
    ("y_true", "y_pred", "weight", "received"),
    [
        ([0.0, np.nan], [0.2, 0.9], [1.0, 1.0], "y_true=.nan., y_pred="),
        ([0.0, 2.0], [0.2, 0.9], [1.0, 1.0], "y_true=.2.0."),
        ([0.0, -1.0], [0.2, 0.9], [1.0, 1.0], "y_true=.-1.0."),
        ([0.0, 0.7], [0.2, 0.9], [1.0, 1.0], "y_true=.0.69"),
        ([0.0, 1.0], [0.2, 3.0], [1.0, 1.0], r"y_pred=\[\[-2.0, 3.0\]\]"),
        ([0.0, 1.0], [0.2, np.nan], [1.0, 1.0], r"y_pred=\[\[nan, nan\]\]"),
        ([0.0, 1.0], [0.2, 0.9], [1.0, -1.0], "sample_weight=.-1.0. among 2 rows"),
        ([0.0, 1.0], [0.2, 0.9], [1.0, np.nan], "sample_weight=.nan."),
    ],
)
def test_invalid_values_are_an_error_or_make_the_calibration_error_nan(
    y_true, y_pred, weight, received
):
    y_true, y_pred, weight = (np.array(v, "float32") for v in (y_true, y_pred, weight))
    metric = metrics.ExpectedCalibrationError()
    with pytest.raises(ValueError, match=f"labels `y_true` from 0 to 1, .*{received}"):
        metric.update_state(y_true, y_pred, weight)
    assert float(metric.result()) == 0.0

    def update(state):
        return metric.stateless_update_state(state, y_true, y_pred, weight)

    state = compiled(update)([variable.value for variable in metric.variables])
    assert np.isnan(float(metric.stateless_result(state)))


def test_labels_beyond_the_classes_are_an_error():
    probabilities = np.full((2, 3), 1 / 3, "float32")
    with pytest.raises(ValueError, match="from 0 to 2"):
        metrics.ExpectedCalibrationError().update_state([1, 3], probabilities)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_sums_of_the_calibration_error_have_at_least_single_precision(dtype):
    metric = metrics.ExpectedCalibrationError(dtype=dtype)
    metric.update_state([0, 1, 1, 1], [0.1, 0.9, 0.9, 1 / 3], [70_000.0, 1.0, 1.0, 30_000.0])
    weights = np.array([7e4, 1.0, 1.0, 3e4])
    confident = (0.1 * weights[0] + 0.1 * weights[1] + 0.1 * weights[2]) / weights.sum()
    wrong = weights[3] * 2 / 3 / weights.sum()
    rtol = 1e-7 if dtype == WIDE == "float64" else 1e-5
    np.testing.assert_allclose(metric.result(), confident + wrong, rtol=rtol)
