import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure
from probability import tfd
from scipy import stats

from keras_extras import visualization
from keras_extras.layers import DistributionLambda

pytestmark = pytest.mark.both_backends(cases=0)

RNG = np.random.default_rng(0)
N = 4000
MEANS = RNG.normal(size=N)
TARGETS = RNG.normal(MEANS, 2.0)
BANDS = visualization.PredictionBands
CALIBRATION = visualization.QuantileCalibration
PIT = visualization.PITHistogram


def normal(scale):
    return tfd.Normal(MEANS, scale)


def labels_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# PredictionBands


def test_bands_are_the_quantiles_at_each_x_in_order():
    x = np.array([3.0, 1.0, 2.0])
    bands = BANDS.from_distribution(x, tfd.Normal(10 * x, x), levels=(0.9, 0.5))
    np.testing.assert_array_equal(bands.x, [1, 2, 3])
    np.testing.assert_array_equal(bands.levels, [0.5, 0.9])
    np.testing.assert_allclose(bands.line, [10, 20, 30], rtol=1e-6)
    ends = stats.norm.ppf([[0.25], [0.05]], 10 * bands.x, bands.x)
    np.testing.assert_allclose(bands.lower, ends, rtol=1e-5)
    np.testing.assert_allclose(bands.upper, 20 * bands.x - ends, rtol=1e-5)


def test_bands_of_a_skewed_distribution_show_its_median_or_mean():
    distribution = tfd.LogNormal(np.zeros(2), 1.0)
    median = BANDS.from_distribution([0.0, 1.0], distribution)
    mean = BANDS.from_distribution([0.0, 1.0], distribution, center="mean")
    np.testing.assert_allclose(median.line, 1.0)
    np.testing.assert_allclose(mean.line, np.exp(0.5))
    np.testing.assert_allclose(mean.upper[1], stats.lognorm.ppf(0.95, 1.0))
    assert "mean" in labels_of(mean.plot().axes[0])


COLUMN = np.arange(4.0)[:, None]


@pytest.mark.parametrize(
    "distribution",
    [
        tfd.Normal(COLUMN[:, 0], 1.0),
        tfd.Normal(COLUMN, 1.0),
        tfd.Independent(tfd.Normal(COLUMN, 1.0), 1),
    ],
)
def test_all_shapes_of_one_entry_for_each_row_are_the_same(distribution):
    for x in (np.arange(4.0), COLUMN):
        bands = BANDS.from_distribution(x, distribution, levels=[0.8])
        np.testing.assert_allclose(bands.upper, [np.arange(4) + stats.norm.ppf(0.9)])
    for y in (np.arange(4.0) + 1, COLUMN + 1):
        # F(y) = 0.84 of all
        assert PIT.from_distribution(y, distribution).count[8] == 4
        curve = CALIBRATION.from_distribution(y, distribution)
        np.testing.assert_array_equal(curve.observed, curve.expected > 0.84)


def test_the_output_of_a_model_is_taken():
    layer = DistributionLambda(lambda t: tfd.Normal(t, 1.0))
    distribution = layer(np.zeros((5, 1), "float32"))
    bands = BANDS.from_distribution(np.arange(5), distribution, levels=[0.5])
    np.testing.assert_allclose(bands.upper, stats.norm.ppf(0.75), rtol=1e-5)
    assert PIT.from_distribution(np.ones(5), distribution).count[8] == 5


def test_bands_are_drawn_from_the_widest_with_line_and_points():
    x = np.linspace(0, 1, 20)
    bands = BANDS.from_distribution(x, tfd.Normal(x, 1.0), levels=(0.5, 0.9))
    figure = bands.plot(x_train=[[0.5], [0.6]], y_train=[1.0, 2.0], xlabel="t / s", ylabel="u / V")
    ax = figure.axes[0]
    assert isinstance(figure, Figure)
    assert labels_of(ax) == ["90% interval", "50% interval", "median", "training data"]
    wide, narrow, points = ax.collections
    for drawn, lower, upper in (
        (wide, bands.lower[1], bands.upper[1]),
        (narrow, bands.lower[0], bands.upper[0]),
    ):
        y = drawn.get_paths()[0].vertices[:, 1]
        assert (y.min(), y.max()) == (lower.min(), upper.max())
    assert wide.get_facecolor().sum() > narrow.get_facecolor().sum()
    np.testing.assert_array_equal(points.get_offsets(), [[0.5, 1.0], [0.6, 2.0]])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), bands.line)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("t / s", "u / V")
    assert len(bands.plot().axes[0].collections) == 2


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"levels": (0.5, 1.0)}, ValueError, r"`levels` must lie in \(0, 1\).*levels=1\.0"),
        ({"levels": (0.0,)}, ValueError, r"levels=0\.0"),
        ({"levels": ()}, ValueError, "must not be empty"),
        ({"levels": ("a",)}, TypeError, "must be a number"),
        ({"center": "mode"}, ValueError, "center='mode'"),
        ({"x": np.zeros((3, 2))}, ValueError, r"x\.shape=\(3, 2\)"),
        ({"x": np.zeros(4)}, ValueError, "4 values and 3 rows"),
        ({"x": [0.0, np.nan, 1.0]}, ValueError, "1 of 3 entries"),
        ({"x": []}, ValueError, "at least 1"),
        ({"distribution": np.zeros(3)}, TypeError, "distribution"),
        ({"distribution": tfd.Normal(0.0, 1.0)}, ValueError, r"batch_shape=\(\)"),
        ({"distribution": tfd.Normal(np.zeros((3, 2)), 1.0)}, ValueError, r"\(3, 2\)"),
    ],
)
def test_wrong_arguments_of_bands_are_errors(changes, error, match):
    arguments = {"x": np.zeros(3), "distribution": tfd.Normal(np.zeros(3), 1.0), **changes}
    with pytest.raises(error, match=match):
        BANDS.from_distribution(**arguments)


def test_wrong_points_are_errors():
    bands = BANDS.from_distribution(np.zeros(3), tfd.Normal(np.zeros(3), 1.0))
    with pytest.raises(ValueError, match="y_train=None"):
        bands.plot(x_train=[1.0])
    with pytest.raises(ValueError, match="2 and 1 values"):
        bands.plot(x_train=[1.0, 2.0], y_train=[1.0])


# QuantileCalibration and PITHistogram


def test_observed_shares_are_those_of_targets_below_the_quantiles():
    curve = CALIBRATION.from_distribution(TARGETS, normal(1.0), num_levels=9)
    np.testing.assert_allclose(curve.expected, np.arange(1, 10) / 10)
    below = [np.mean(stats.norm.cdf(TARGETS, MEANS, 1.0) <= p) for p in curve.expected]
    np.testing.assert_allclose(curve.observed, below, atol=1e-12)
    assert curve.error == pytest.approx(np.mean(np.abs(below - curve.expected)))
    # In the limit of many targets, whose scale is 2 instead of 1.
    limit = stats.norm.cdf(stats.norm.ppf(curve.expected) / 2)
    np.testing.assert_allclose(curve.observed, limit, atol=0.025)


def test_the_calibrated_lies_in_the_bands_and_the_overconfident_does_not():
    curve = CALIBRATION.from_distribution(TARGETS, normal(2.0))
    lower, upper = curve.band(0.999)
    assert np.all((lower < curve.observed) & (curve.observed < upper))
    assert curve.error < 0.02
    histogram = PIT.from_distribution(TARGETS, normal(2.0))
    lower, upper = histogram.band(0.999)
    assert np.all((lower < histogram.density) & (histogram.density < upper))

    curve = CALIBRATION.from_distribution(TARGETS, normal(1.0))
    lower, upper = curve.band(0.999)
    assert curve.observed[0] > upper[0]
    assert curve.observed[-1] < lower[-1]
    histogram = PIT.from_distribution(TARGETS, normal(1.0))
    lower, upper = histogram.band(0.999)
    assert min(histogram.density[[0, -1]]) > upper
    assert max(histogram.density[3:7]) < lower


def test_bands_are_those_of_the_binomial_distribution():
    curve = CALIBRATION.from_distribution(TARGETS, normal(2.0), num_levels=9)
    exact = stats.binom.interval(0.9, N, curve.expected)
    np.testing.assert_allclose(curve.band(0.9), np.array(exact) / N, atol=1 / N)
    histogram = PIT.from_distribution(TARGETS, normal(2.0), num_bins=4)
    exact = stats.binom.interval(0.9, N, 0.25)
    np.testing.assert_allclose(histogram.band(0.9), np.array(exact) / (N / 4), atol=4 / N)
    with pytest.raises(ValueError, match=r"`confidence` must lie in \(0, 1\)"):
        curve.band(95)


RATES = RNG.gamma(2.0, size=N)
POSITIVE = RNG.uniform(size=N)


@pytest.mark.parametrize(
    ("distribution", "y_true"),
    [
        (tfd.Poisson(RATES, validate_args=True), RNG.poisson(RATES)),
        (tfd.Independent(tfd.Poisson(RATES[:, None]), 1), RNG.poisson(RATES)),
        (tfd.Bernoulli(probs=POSITIVE), RNG.uniform(size=N) < POSITIVE),
        (tfd.NegativeBinomial(3.0, probs=POSITIVE), RNG.negative_binomial(3, 1 - POSITIVE)),
        (tfd.Categorical(probs=np.full((N, 3), 1 / 3)), RNG.integers(3, size=N)),
    ],
)
def test_transforms_of_discrete_distributions_are_uniform(distribution, y_true):
    histogram = PIT.from_distribution(y_true, distribution, num_bins=20)
    assert stats.chisquare(histogram.count).pvalue > 1e-3
    curve = CALIBRATION.from_distribution(y_true, distribution)
    lower, upper = curve.band(0.9995)
    assert np.all((lower < curve.observed) & (curve.observed < upper))


def test_the_randomized_transform_spreads_over_the_step_of_the_target():
    distribution = tfd.Poisson(np.full(N, 1.5))
    histogram = PIT.from_distribution(np.full(N, 2), distribution, num_bins=1000)
    inside = histogram.edges[:-1][histogram.count > 0]
    ends = stats.poisson.cdf([1, 2], 1.5)
    np.testing.assert_allclose([inside[0], inside[-1] + 1e-3], ends, atol=3e-3)
    again, other = (PIT.from_distribution(np.full(N, 2), distribution, 1000, s) for s in (0, 1))
    np.testing.assert_array_equal(histogram.count, again.count)
    assert (histogram.count != other.count).any()


def test_a_mixture_is_continuous_though_it_has_no_quantile():
    mixture = tfd.MixtureSameFamily(
        tfd.Categorical(probs=np.full((N, 2), 0.5)),
        tfd.Normal(np.tile([-3.0, 3.0], (N, 1)), 1.0),
    )
    rng = np.random.default_rng(1)
    y_true = rng.choice([-3.0, 3.0], size=N) + rng.normal(size=N)
    assert stats.chisquare(PIT.from_distribution(y_true, mixture).count).pvalue > 1e-3


def test_histograms_count_every_target_also_at_the_ends():
    distribution = tfd.Uniform(np.zeros(4), 1.0)
    histogram = PIT.from_distribution([-1.0, 0.0, 0.6, 2.0], distribution, num_bins=2)
    np.testing.assert_array_equal(histogram.count, [2, 2])
    np.testing.assert_array_equal(histogram.edges, [0, 0.5, 1])
    np.testing.assert_array_equal(histogram.density, [1, 1])


def test_the_calibration_curve_is_drawn_with_diagonal_and_band():
    curve = CALIBRATION.from_distribution(TARGETS, normal(1.0))
    ax = curve.plot(confidence=0.9).axes[0]
    assert labels_of(ax) == [
        "calibrated, 90% of samples",
        f"observed, mean deviation {curve.error:.3f}",
    ]
    diagonal, line = ax.lines
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [1, 1]])
    np.testing.assert_array_equal(line.get_xydata(), np.transpose([curve.expected, curve.observed]))
    width = np.ptp(ax.collections[0].get_paths()[0].vertices @ [-1, 1])
    lower, upper = curve.band(0.9)
    assert width == pytest.approx(max(upper - lower), rel=1e-6)


def test_the_histogram_is_drawn_with_uniform_line_and_band():
    histogram = PIT.from_distribution(TARGETS, normal(1.0), num_bins=5)
    ax = histogram.plot(confidence=0.9).axes[0]
    *bars, band = ax.patches
    np.testing.assert_allclose([bar.get_height() for bar in bars], histogram.density)
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx(histogram.band(0.9))
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1, 1])
    assert set(labels_of(ax)) == {"observed, 4,000 targets", "calibrated, 90% of samples"}


@pytest.mark.parametrize("cls", [CALIBRATION, PIT])
@pytest.mark.parametrize(
    ("y_true", "distribution", "error", "match"),
    [
        (np.zeros(3), tfd.Normal(np.zeros(4), 1.0), ValueError, "cannot pair"),
        (np.zeros(1), tfd.Normal(np.zeros((4, 1)), 1.0), ValueError, "cannot pair"),
        (np.zeros((4, 2)), tfd.Normal(np.zeros(4), 1.0), ValueError, r"y_true\.shape=\(4, 2\)"),
        ([0.0, np.nan], tfd.Normal(np.zeros(2), 1.0), ValueError, "1 of 2 entries NaN"),
        ([], tfd.Normal(np.zeros(0), 1.0), ValueError, "at least 1"),
        ([0.0], tfd.Normal(0.0, 1.0), ValueError, r"batch_shape=\(\)"),
        ([0.0], tfd.MultivariateNormalDiag([[0.0, 0.0]]), ValueError, r"event_shape=\(2,\)"),
        ([0.0], tfd.Normal([np.nan], 1.0), ValueError, r"`F\(y_true\)`.*1 of 1 entries"),
        ([0.5], tfd.Poisson(np.ones(1)), ValueError, "whole numbers.*0.5"),
        ([0.0], np.zeros(1), TypeError, "distribution"),
    ],
)
def test_wrong_targets_and_distributions_are_errors(cls, y_true, distribution, error, match):
    with pytest.raises(error, match=match):
        cls.from_distribution(y_true, distribution)


def test_wrong_numbers_are_errors():
    with pytest.raises(ValueError, match="num_levels=0"):
        CALIBRATION.from_distribution(TARGETS, normal(1.0), num_levels=0)
    with pytest.raises(TypeError, match=r"num_bins=1\.5"):
        PIT.from_distribution(TARGETS, normal(1.0), num_bins=1.5)
    with pytest.raises(ValueError, match="seed=-1"):
        PIT.from_distribution(TARGETS, normal(1.0), seed=-1)


# All of them

OBJECTS = [
    BANDS.from_distribution(np.arange(3), tfd.Normal(np.zeros(3), 1.0)),
    CALIBRATION.from_distribution(TARGETS, normal(1.0)),
    PIT.from_distribution(TARGETS, normal(1.0)),
    visualization.ReliabilityDiagram.from_predictions([0, 1], [0.2, 0.7]),
]


@pytest.mark.parametrize("shown", OBJECTS, ids=lambda shown: type(shown).__name__)
def test_objects_are_frozen_and_drawn_on_given_axes(shown):
    figure = Figure(layout="constrained")
    ax = figure.subplots()
    assert shown.plot(ax) is figure
    assert figure.axes == [ax]
    assert ax.get_legend()
    figure.draw_without_rendering()
    with pytest.raises(dataclasses.FrozenInstanceError):
        shown.count = 3
