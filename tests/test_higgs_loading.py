import numpy as np
import pytest

from keras_extras.datasets import higgs


@pytest.fixture(scope="module")
def parts():
    return higgs.load_data(num_events=1000, test_size=0.25)


def test_parts_are_disjoint_and_complete(parts):
    train, test = parts
    assert train.features.shape == (750, 30)
    assert test.features.shape == (250, 30)
    ids = np.concatenate([train.event_ids, test.event_ids])
    np.testing.assert_array_equal(np.sort(ids), np.arange(1000))


def test_rows_stay_together(parts):
    whole = higgs.load_events(num_events=1000)
    for part in parts:
        np.testing.assert_array_equal(part.features, whole.features[part.event_ids])
        np.testing.assert_array_equal(part.labels, whole.labels[part.event_ids])
        assert part.feature_names == higgs.FEATURE_NAMES


def test_parts_hold_the_same_share_of_signal(parts):
    assert [part.labels.mean() for part in parts] == pytest.approx([0.34, 0.34], abs=2e-3)


def test_parts_are_shuffled(parts):
    for part in parts:
        assert not np.array_equal(part.event_ids, np.sort(part.event_ids))
        assert 0 < part.labels[:50].sum() < 50


def test_weights_of_each_part_sum_to_those_of_the_challenge(parts):
    for part in parts:
        signal = part.labels == 1
        assert part.weights[signal].sum() == pytest.approx(691.99, rel=1e-5)
        assert part.weights[~signal].sum() == pytest.approx(410_999.8, rel=1e-5)


def test_same_seed_same_split(parts):
    for part, again in zip(parts, higgs.load_data(num_events=1000, test_size=0.25), strict=True):
        for values, same in zip(part, again, strict=True):
            np.testing.assert_array_equal(values, same)


def test_seed_changes_the_split_of_a_file(atlas_csv):
    tests = [higgs.load_data(atlas_csv, num_events=500, seed=seed)[1] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(tests[0].event_ids, tests[1].event_ids)
    assert set(tests[0].event_ids) != set(tests[2].event_ids)
    assert len(tests[0].labels) == 100


@pytest.mark.parametrize("test_size", [0.0, -0.1, 2.0, float("nan")])
def test_rejects_shares_outside_of_zero_to_one(test_size):
    with pytest.raises(ValueError, match=r"`test_size` must be .*Received: test_size="):
        higgs.load_data(num_events=100, test_size=test_size)


@pytest.mark.parametrize("test_size", [0.1, 0.9, 1.0])
def test_rejects_a_part_without_signal(test_size):
    with pytest.raises(ValueError, match=rf"both need signal .*test_size={test_size}, 3 signal"):
        higgs.load_data(num_events=10, test_size=test_size)


@pytest.mark.parametrize(
    ("num_events", "error"), [(0, ValueError), (-5, ValueError), (2.5, TypeError)]
)
def test_rejects_bad_numbers_of_events(num_events, error):
    with pytest.raises(error, match=r"`num_events` .*Received: num_events="):
        higgs.load_events(num_events=num_events)


def test_rejects_sources_that_are_no_path():
    with pytest.raises(TypeError, match=r"`source` must be .*Received: source=3"):
        higgs.load_events(3)


def test_rescales_each_class_to_its_sum():
    labels, weights = np.array([1, 0, 1, 0, 0]), np.array([1.0, 2.0, 3.0, 4.0, 2.0])
    rescaled = higgs.rescale_weights(labels, weights, signal_sum=8.0, background_sum=4.0)
    assert rescaled.dtype == np.float32
    assert rescaled.tolist() == [2.0, 1.0, 6.0, 2.0, 1.0]
    assert weights.tolist() == [1.0, 2.0, 3.0, 4.0, 2.0]


def test_rescales_to_the_challenge_s_sums_by_default():
    assert higgs.rescale_weights([1, 0], [5.0, 7.0]).tolist() == pytest.approx([691.99, 410_999.8])


def test_rescaling_leaves_an_absent_class_alone():
    assert higgs.rescale_weights([1, 1], [1.0, 3.0], signal_sum=8.0).tolist() == [2.0, 6.0]


def test_rejects_weights_that_cannot_be_rescaled():
    with pytest.raises(ValueError, match=r"label 0 must have a positive sum.*sum 0.0"):
        higgs.rescale_weights([1, 0], [1.0, 0.0])


@pytest.mark.parametrize(
    ("labels", "weights", "message"),
    [
        ([1, 0, 2], [1.0, 1.0, 1.0], r"`labels` must be 1 .*Received: .*2.* at index 2"),
        ([1.0, np.nan], [1.0, 1.0], r"`labels` must be 1 .* at index 1"),
        (["s", "b"], [1.0, 1.0], "`labels` must be 1 for signal"),
        ([1, 0], [1.0, np.nan], "`weights` must be finite. Received: nan at index 1"),
        ([1, 0], [np.inf, 1.0], "`weights` must be finite. Received: inf at index 0"),
        ([[1], [0]], [1.0, 1.0], "must have one shape"),
        ([1, 0, 1], [1.0, 1.0], "must have one shape"),
    ],
)
def test_weights_that_cannot_be_rescaled(labels, weights, message):
    with pytest.raises(ValueError, match=message):
        higgs.rescale_weights(labels, weights)
