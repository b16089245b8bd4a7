import numpy as np
import pytest
from probability import tfd

from keras_extras.layers import DistributionLambda
from keras_extras.visualization import ReliabilityDiagram

pytestmark = pytest.mark.both_backends(cases=0)

RNG = np.random.default_rng(0)
N = 5000
POSITIVE = RNG.uniform(size=N)
LABELS = (RNG.uniform(size=N) < POSITIVE).astype(int)
SCORES = np.exp(RNG.normal(size=(N, 4)))
CLASSES = SCORES / SCORES.sum(axis=1, keepdims=True)
CLASS_LABELS = (CLASSES.cumsum(axis=1) < RNG.uniform(size=(N, 1))).sum(axis=1)


def assert_same(curve, other):
    for name in ("edges", "confidence", "accuracy", "count"):
        np.testing.assert_allclose(getattr(curve, name), getattr(other, name), rtol=1e-5)
    assert curve.of_top_class == other.of_top_class


def test_bins_by_hand():
    curve = ReliabilityDiagram.from_predictions(
        [0, 1, 1, 0, 1], [0.1, 0.3, 0.8, 0.9, 1.0], num_bins=4
    )
    np.testing.assert_array_equal(curve.edges, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(curve.count, [1, 1, 0, 3])
    np.testing.assert_allclose(curve.confidence, [0.1, 0.3, np.nan, 0.9])
    np.testing.assert_allclose(curve.accuracy, [0, 1, np.nan, 2 / 3])
    assert curve.expected_calibration_error == pytest.approx((0.1 + 0.7 + 3 * (0.9 - 2 / 3)) / 5)
    assert not curve.of_top_class


def test_the_top_class_by_hand():
    probabilities = [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]
    curve = ReliabilityDiagram.from_predictions([0, 0, 2], probabilities, num_bins=2)
    np.testing.assert_array_equal(curve.count, [0, 3])
    assert curve.confidence[1] == pytest.approx(0.7)
    assert curve.accuracy[1] == pytest.approx(2 / 3)
    assert curve.of_top_class


def test_calibrated_predictions_lie_on_the_diagonal_and_sharpened_ones_below():
    curve = ReliabilityDiagram.from_predictions(CLASS_LABELS, CLASSES)
    filled = curve.count > 0
    deviation = np.abs(curve.accuracy - curve.confidence)[filled]
    error = np.sqrt(curve.confidence * (1 - curve.confidence) / curve.count)[filled]
    assert np.all(deviation < 4 * error)
    assert curve.expected_calibration_error < 0.02

    sharp = CLASSES**3 / np.sum(CLASSES**3, axis=1, keepdims=True)
    curve = ReliabilityDiagram.from_predictions(CLASS_LABELS, sharp)
    assert curve.accuracy[-1] < curve.confidence[-1] - 0.1
    expected = np.mean(sharp.max(axis=1)) - np.mean(sharp.argmax(axis=1) == CLASS_LABELS)
    # All bins lie below the diagonal, so that the distances add up to that of the means.
    assert curve.expected_calibration_error == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "predictions",
    [
        POSITIVE[:, None],
        tfd.Bernoulli(probs=POSITIVE),
        tfd.Independent(tfd.Bernoulli(probs=POSITIVE[:, None]), 1),
        tfd.Bernoulli(logits=np.log(POSITIVE / (1 - POSITIVE))),
    ],
)
@pytest.mark.parametrize("y_true", [LABELS, LABELS[:, None], LABELS == 1])
def test_two_classes_in_every_shape(y_true, predictions):
    curve = ReliabilityDiagram.from_predictions(y_true, predictions)
    assert_same(curve, ReliabilityDiagram.from_predictions(LABELS, POSITIVE))


@pytest.mark.parametrize(
    "predictions",
    [
        tfd.Categorical(probs=CLASSES),
        tfd.Categorical(logits=np.log(SCORES)),
        tfd.Independent(tfd.Categorical(probs=CLASSES[:, None]), 1),
        tfd.OneHotCategorical(probs=CLASSES),
    ],
)
@pytest.mark.parametrize("y_true", [CLASS_LABELS, CLASS_LABELS[:, None], np.eye(4)[CLASS_LABELS]])
def test_more_classes_in_every_shape(y_true, predictions):
    curve = ReliabilityDiagram.from_predictions(y_true, predictions)
    assert_same(curve, ReliabilityDiagram.from_predictions(CLASS_LABELS, CLASSES))


def test_the_output_of_a_model_is_taken():
    layer = DistributionLambda(lambda t: tfd.Independent(tfd.Bernoulli(probs=t), 1))
    curve = ReliabilityDiagram.from_predictions(LABELS, layer(POSITIVE[:, None].astype("float32")))
    assert_same(curve, ReliabilityDiagram.from_predictions(LABELS, POSITIVE.astype("float32")))


def test_intervals_are_those_where_the_share_is_one_standard_error_away():
    curve = ReliabilityDiagram.from_predictions(
        [0, 0, 0, 1, 1, 1], [0.1, 0.1, 0.8, 0.8, 0.8, 0.8], 2
    )
    for end in curve.interval:
        standard_error = np.sqrt(end * (1 - end) / curve.count)
        distance = np.abs(end - curve.accuracy)
        # At an accuracy of 0, which has no lower side, the end is the accuracy itself.
        np.testing.assert_allclose(distance, standard_error, atol=1e-12)
    lower, upper = curve.interval
    assert np.all(lower <= curve.accuracy + 1e-12)
    assert upper[0] == pytest.approx(1 / 3)


def test_the_curve_is_drawn_with_diagonal_errors_and_counts():
    curve = ReliabilityDiagram.from_predictions(LABELS, POSITIVE, num_bins=5)
    figure = curve.plot()
    ax = figure.axes[0]
    (counts,) = ax.child_axes
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 0], [1, 1]])
    points = np.transpose([curve.confidence, curve.accuracy])
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), points)
    segments = np.array(ax.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, :, 1], np.transpose(curve.interval))
    np.testing.assert_array_equal([bar.get_height() for bar in counts.patches], curve.count)
    assert "positive class" in counts.get_xlabel()
    error = f"{curve.expected_calibration_error:.3f}"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["calibrated", f"observed, calibration error {error}"]


def test_the_axes_of_the_top_class_say_so():
    ax = ReliabilityDiagram.from_predictions(CLASS_LABELS, CLASSES).plot().axes[0]
    assert ax.get_ylabel() == "accuracy"
    assert "predicted class" in ax.child_axes[0].get_xlabel()


@pytest.mark.parametrize(
    ("y_true", "predictions", "error", "match"),
    [
        ([0, 1], [0.5, 1.5], ValueError, r"not logits.*0\.5 to 1\.5"),
        ([0, 1], [0.5, np.nan], ValueError, "1 of 2 entries"),
        ([], [], ValueError, "at least 1"),
        ([0], np.zeros((0, 3)), ValueError, r"predictions\.shape=\(0, 3\)"),
        ([0], np.zeros((1, 2, 3)), ValueError, r"predictions\.shape=\(1, 2, 3\)"),
        ([0], [[0.5, 0.6]], ValueError, r"sum to 1.*1\.1"),
        ([0, 1, 1], [0.5, 0.5], ValueError, "3 labels and 2 rows"),
        ([0, 2], [0.5, 0.5], ValueError, r"from 0 to 1\. Received: a label of 2"),
        ([0.5], [0.5], ValueError, r"a label of 0\.5"),
        ([3], [[0.2, 0.3, 0.5]], ValueError, "from 0 to 2"),
        ([np.nan], [0.5], ValueError, "1 of 1 entries"),
        ([[1, 1, 0]], [[0.2, 0.3, 0.5]], ValueError, "one-hot"),
        ([[0, 1]], [[0.2, 0.3, 0.5]], ValueError, r"y_true\.shape=\(1, 2\)"),
        ([0], tfd.Normal([0.0], 1.0), TypeError, "OneHotCategorical.*Normal"),
    ],
)
def test_wrong_labels_and_predictions_are_errors(y_true, predictions, error, match):
    with pytest.raises(error, match=match):
        ReliabilityDiagram.from_predictions(y_true, predictions)


def test_a_wrong_number_of_bins_is_an_error():
    with pytest.raises(ValueError, match="num_bins=0"):
        ReliabilityDiagram.from_predictions([0], [0.5], num_bins=0)
