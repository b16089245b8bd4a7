import math

import keras
import numpy as np
import pytest
from precision import WIDE

from keras_extras.metrics import ApproximateMedianSignificance

pytestmark = pytest.mark.both_backends


def ams(s, b, b_r=10.0):
    """The published formula, in double precision."""
    return math.sqrt(2 * ((s + b + b_r) * math.log(1 + s / (b + b_r)) - s))


Y_TRUE = np.array([1, 1, 0, 0, 1])
Y_PRED = np.array([0.9, 0.2, 0.7, 0.1, 0.6], "float32")
WEIGHT = np.array([50.0, 50.0, 90.0, 900.0, 30.0], "float32")


def test_hand_computed_values():
    metric = ApproximateMedianSignificance()
    # s = 50 + 30 = 80, b = 90: 180 log(1.8) - 80 = 25.8016, doubled 51.6032, root 7.18354
    assert float(metric(Y_TRUE, Y_PRED, WEIGHT)) == pytest.approx(7.18354, abs=1e-5)

    metric = ApproximateMedianSignificance(threshold=0.65, regularization=0.0)
    # s = 50, b = 90: 140 log(14 / 9) - 50 = 11.8566, doubled 23.7132, root 4.86962
    assert float(metric(Y_TRUE, Y_PRED, WEIGHT)) == pytest.approx(ams(50, 90, 0), rel=1e-6)


def test_events_without_weights_count_as_one():
    metric = ApproximateMedianSignificance()
    assert float(metric(Y_TRUE, Y_PRED)) == pytest.approx(ams(2, 1), rel=1e-6)
    metric.reset_state()
    assert float(metric(Y_TRUE, Y_PRED, 7.0)) == pytest.approx(ams(14, 7), rel=1e-6)


@pytest.mark.parametrize("label_shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("prediction_shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("weight_shape", [(-1,), (-1, 1)])
def test_shapes(label_shape, prediction_shape, weight_shape):
    metric = ApproximateMedianSignificance()
    value = metric(
        Y_TRUE.reshape(label_shape), Y_PRED.reshape(prediction_shape), WEIGHT.reshape(weight_shape)
    )
    assert float(value) == pytest.approx(ams(80, 90), rel=1e-6)


def test_sums_over_batches_before_the_formula():
    metric = ApproximateMedianSignificance()
    for start in range(0, 5, 2):
        batch = slice(start, start + 2)
        metric.update_state(Y_TRUE[batch], Y_PRED[batch], WEIGHT[batch])
    assert float(metric.result()) == pytest.approx(ams(80, 90), rel=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_many_small_weights_are_summed_accurately():
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, 400_000)
    weight = rng.exponential(0.01, 400_000)
    metric = ApproximateMedianSignificance()
    for start in range(0, 400_000, 500):
        batch = slice(start, start + 500)
        metric.update_state(y_true[batch], np.ones(500), weight[batch])
    expected = ams(weight[y_true == 1].sum(), weight[y_true == 0].sum())
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("s", [1e-4, 0.01, 1.0, 29.0, 31.0, 1e3, 1e6])
def test_accurate_for_little_and_for_much_signal(s):
    """With b + b_r = 1,000 the ratio runs from 1e-7, where float32 cancels, to 1,000."""
    metric = ApproximateMedianSignificance()
    series = s / math.sqrt(1000.0) * (1 - s / 6000.0)
    expected = series if s < 1.0 else ams(s, 990)
    value = metric(np.array([1, 0]), np.array([1.0, 1.0]), np.array([s, 990.0]))
    assert float(value) == pytest.approx(expected, rel=5e-6)


def test_nothing_selected_is_no_significance():
    metric = ApproximateMedianSignificance(regularization=0.0)
    assert float(metric(Y_TRUE, np.zeros(5))) == 0.0


def test_rows_without_weight_and_weights_of_events_left_out_may_be_nan():
    metric = ApproximateMedianSignificance()
    y_pred = np.where(np.arange(5) == 4, np.nan, Y_PRED)
    weight = np.array([50.0, 50.0, 90.0, np.nan, 0.0])
    assert float(metric(Y_TRUE, y_pred, weight)) == pytest.approx(ams(50, 90), rel=1e-6)


INVALID = [
    (np.where(Y_TRUE == 1, 2, 0), Y_PRED, r"y_true=\[2.0, 2.0, 2.0\]"),
    (np.where(Y_TRUE == 1, 1, -1), Y_PRED, "y_true=\\[-1.0, -1.0\\]"),
    (np.where(Y_TRUE == 1, 1.0, np.nan), Y_PRED, "y_true=\\[nan, nan\\]"),
    (Y_TRUE, np.where(Y_PRED > 0.8, np.nan, Y_PRED), "y_pred=\\[nan\\] among 5 rows"),
]


@pytest.mark.parametrize(("y_true", "y_pred", "received"), INVALID)
def test_invalid_values_are_an_error_or_make_the_metric_nan(y_true, y_pred, received):
    metric = ApproximateMedianSignificance()
    with pytest.raises(ValueError, match=f"labels `y_true` of 0 and 1.*{received}"):
        metric.update_state(y_true, y_pred, WEIGHT)
    assert float(metric.result()) == 0.0

    model = keras.Sequential([keras.Input((1,)), keras.layers.Activation("linear")])
    model.compile(loss="mse", weighted_metrics=[metric])
    logs = model.evaluate(y_pred[:, None], y_true, sample_weight=WEIGHT, verbose=0)
    assert math.isnan(logs[-1])


def test_negative_weights_never_give_nan():
    metric = ApproximateMedianSignificance()
    assert float(metric([1, 0], [1.0, 1.0], [-5.0, 3.0])) == 0.0
    metric.reset_state()
    assert math.isfinite(float(metric([1, 0], [1.0, 1.0], [5.0, -30.0])))


def test_evaluate_and_fit_give_the_weights_through_weighted_metrics():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Activation("linear")])
    model.compile(
        loss="mse",
        metrics=[ApproximateMedianSignificance(name="counts")],
        weighted_metrics=[ApproximateMedianSignificance()],
    )
    logs = model.evaluate(
        Y_PRED[:, None], Y_TRUE, sample_weight=WEIGHT, batch_size=2, verbose=0, return_dict=True
    )
    assert logs["ams"] == pytest.approx(ams(80, 90), rel=1e-6)
    assert logs["counts"] == pytest.approx(ams(2, 1), rel=1e-6)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile("adam", "binary_crossentropy", weighted_metrics=[ApproximateMedianSignificance()])
    data = (Y_PRED[:, None], Y_TRUE, WEIGHT)
    history = model.fit(*data[:2], sample_weight=WEIGHT, validation_data=data, epochs=2, verbose=0)
    assert len(history.history["val_ams"]) == 2
    evaluated = model.evaluate(*data[:2], sample_weight=WEIGHT, verbose=0, return_dict=True)
    assert history.history["val_ams"][-1] == pytest.approx(evaluated["ams"], rel=1e-6)


def test_callbacks_know_that_more_is_better():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile("adam", "binary_crossentropy", weighted_metrics=[ApproximateMedianSignificance()])
    stopping = keras.callbacks.EarlyStopping("ams", patience=1)
    model.fit(Y_PRED[:, None], Y_TRUE, sample_weight=WEIGHT, callbacks=[stopping], verbose=0)
    assert stopping.monitor_op(2.0, 1.0)


def test_config_round_trip():
    metric = ApproximateMedianSignificance(0.8, 2.5, name="significance", dtype="float32")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert isinstance(copy, ApproximateMedianSignificance)
    assert copy.get_config() == metric.get_config()
    assert (copy.threshold, copy.regularization, copy.name) == (0.8, 2.5, "significance")


def test_errors():
    metric = ApproximateMedianSignificance()
    softmax = np.stack([1 - Y_PRED, Y_PRED], axis=1)
    with pytest.raises(ValueError, match=r"`y_pred` must have shape.*y_pred.shape=\(5, 2\)"):
        metric.update_state(Y_TRUE, softmax)
    with pytest.raises(ValueError, match=r"`y_true` must have shape.*y_true.shape=\(5, 2\)"):
        metric.update_state(np.eye(2)[Y_TRUE], Y_PRED)
    with pytest.raises(ValueError, match=r"`regularization` must be at least 0.*=-1"):
        ApproximateMedianSignificance(regularization=-1)
    with pytest.raises(TypeError, match="`threshold` must be a number"):
        ApproximateMedianSignificance(threshold="high")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", WIDE])
def test_sums_have_at_least_single_precision(dtype):
    metric = ApproximateMedianSignificance(dtype=dtype)
    weight = np.array([1e6 + 1 / 3, 1e6])
    value = metric(np.array([1, 0]), np.array([1.0, 1.0]), weight)
    rtol = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(value, ams(*weight), rtol=rtol)
