"""Losses without gradients against the formulas, scikit-learn and metrics, and in training."""

import math

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
from contract_support import saved_and_loaded
from keras import ops
from tiers import UNCOMPILED, quick

from keras_extras import metrics
from keras_extras.losses import (
    ApproximateMedianSignificanceLoss,
    AUCLoss,
    F1Loss,
    FBetaLoss,
    ZeroOneLoss,
)
from keras_extras.optimizers import MonteCarloOptimizer

RNG = np.random.default_rng(4)
LABELS = RNG.integers(0, 2, 200)
# One decimal, so that most predictions have ties.
PREDICTIONS = np.round(LABELS + RNG.normal(size=200), 1).astype("float32")
WEIGHTS = RNG.exponential(size=200).astype("float32")
COLUMN_LABELS = RNG.integers(0, 2, (200, 3))
COLUMNS = (COLUMN_LABELS + RNG.normal(size=(200, 3))).astype("float32")
CLASSES = RNG.integers(0, 3, 200)

BINARY = [ApproximateMedianSignificanceLoss(), AUCLoss(), F1Loss(), FBetaLoss(beta=2.0)]
BINARY_AND_ROWS = [*BINARY, ZeroOneLoss()]


def by_name(loss):
    return type(loss).__name__


def ams(s, b, b_r=10.0):
    """The published formula, in double precision."""
    return math.sqrt(2 * ((s + b + b_r) * math.log(1 + s / (b + b_r)) - s))


# Values


def test_significance_is_that_of_the_metric():
    loss = ApproximateMedianSignificanceLoss(0.6, 2.5)
    metric = metrics.ApproximateMedianSignificance(0.6, 2.5)
    expected = float(metric(LABELS, PREDICTIONS, WEIGHTS))
    assert expected > 1.0
    assert float(loss(LABELS, PREDICTIONS, WEIGHTS)) == pytest.approx(-expected, rel=1e-6)


def test_significance_of_a_batch_is_scaled_to_all_events():
    loss = ApproximateMedianSignificanceLoss(signal_total=90.0, background_total=4000.0)
    # 2 of 3 parts of the signal's weight are selected, and 1 of 4 parts of the background's.
    arguments = ([1, 1, 0, 0], [0.9, 0.1, 0.8, 0.2], [2.0, 1.0, 5.0, 15.0])
    assert float(loss(*arguments)) == pytest.approx(-ams(60, 1000), rel=1e-5)
    doubled = [np.tile(values, 2) for values in arguments]
    assert float(loss(*doubled)) == pytest.approx(-ams(60, 1000), rel=1e-5)


@pytest.mark.parametrize("totals", [{}, {"signal_total": 90.0, "background_total": 4000.0}])
def test_significance_of_nothing_is_zero(totals):
    loss = ApproximateMedianSignificanceLoss(regularization=0.0, **totals)
    assert float(loss(LABELS, np.zeros(200))) == 0.0
    assert float(loss(np.zeros(200), PREDICTIONS)) == 0.0
    assert np.isfinite(float(loss(np.ones(200), PREDICTIONS)))
    assert float(loss(LABELS, PREDICTIONS, np.zeros(200))) == 0.0


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_auc_is_exact_with_ties(weights):
    expected = sklearn.metrics.roc_auc_score(LABELS, PREDICTIONS, sample_weight=weights)
    loss = AUCLoss()
    assert float(loss(LABELS, PREDICTIONS, weights)) == pytest.approx(1 - expected, abs=1e-6)
    assert float(loss(LABELS, -PREDICTIONS, weights)) == pytest.approx(expected, abs=1e-6)
    assert float(loss(LABELS, np.where(LABELS == 1, np.inf, -np.inf))) == pytest.approx(0, abs=1e-6)


def test_auc_of_a_large_batch():
    labels = np.tile(LABELS, 40)
    predictions = np.random.default_rng(5).normal(size=8000).astype("float32")
    expected = 1 - sklearn.metrics.roc_auc_score(labels, predictions)
    assert float(AUCLoss()(labels, predictions)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("labels", [np.zeros(200), np.ones(200)])
def test_auc_of_one_class_or_equal_predictions_is_a_half(labels):
    assert float(AUCLoss()(labels, PREDICTIONS)) == 0.5
    assert float(AUCLoss()(LABELS, np.ones(200))) == pytest.approx(0.5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_fbeta_is_that_of_scikit_learn_and_keras(average, beta, weights):
    loss = FBetaLoss(average, beta)
    expected = sklearn.metrics.fbeta_score(
        COLUMN_LABELS, COLUMNS > 0.5, beta=beta, average=average, sample_weight=weights
    )
    value = float(loss(COLUMN_LABELS, COLUMNS, weights))
    assert value == pytest.approx(1 - expected, rel=1e-5)
    metric = keras.metrics.FBetaScore(average, beta, 0.5)
    metric.update_state(COLUMN_LABELS, COLUMNS, weights)
    assert value == pytest.approx(1 - float(metric.result()), rel=1e-5)


def test_fbeta_by_the_greatest_prediction():
    expected = sklearn.metrics.f1_score(CLASSES, COLUMNS.argmax(1), average="macro")
    loss = F1Loss(threshold=None)
    assert float(loss(np.eye(3)[CLASSES], COLUMNS)) == pytest.approx(1 - expected, rel=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_f1_of_one_column(weights):
    expected = sklearn.metrics.f1_score(LABELS, PREDICTIONS > 0.2, sample_weight=weights)
    value = F1Loss(threshold=0.2)(LABELS, PREDICTIONS[:, None], weights)
    assert float(value) == pytest.approx(1 - expected, rel=1e-5)
    assert float(F1Loss()(np.zeros(200), np.zeros(200))) == 1.0


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_zero_one_of_one_column(shape):
    expected = sklearn.metrics.zero_one_loss(LABELS, PREDICTIONS > 0.2)
    loss = ZeroOneLoss(threshold=0.2)
    for labels in (LABELS, LABELS[:, None]):
        assert float(loss(labels, PREDICTIONS.reshape(shape))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("labels", [CLASSES, CLASSES[:, None], np.eye(3)[CLASSES]])
def test_zero_one_of_classes(labels):
    loss = ZeroOneLoss(reduction="mean_with_sample_weight")
    expected = sklearn.metrics.zero_one_loss(CLASSES, COLUMNS.argmax(1), sample_weight=WEIGHTS)
    assert float(loss(labels, COLUMNS, WEIGHTS)) == pytest.approx(expected, rel=1e-5)


def test_zero_one_of_sequences():
    classes, columns = CLASSES.reshape(20, 10), COLUMNS.reshape(20, 10, 3)
    rows = ZeroOneLoss(reduction="none")(classes, columns)
    np.testing.assert_array_equal(rows, classes != columns.argmax(-1))


# What an optimizer and Keras do with them


@pytest.mark.parametrize("loss", BINARY_AND_ROWS, ids=by_name)
def test_nan_predictions_make_the_loss_nan(loss):
    broken = np.where(np.arange(200) == 7, np.nan, PREDICTIONS)
    assert math.isnan(loss(LABELS, broken))


@pytest.mark.parametrize("loss", BINARY, ids=by_name)
def test_rows_without_weight_may_be_nan(loss):
    kept = np.arange(200) != 7
    broken = np.where(kept, PREDICTIONS, np.nan)
    expected = loss(LABELS[kept], PREDICTIONS[kept])
    assert float(loss(LABELS, broken, kept)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS, WEIGHTS[:, None]])
@pytest.mark.parametrize("loss", BINARY_AND_ROWS, ids=by_name)
def test_masks_leave_rows_out(loss, weights):
    inputs = PREDICTIONS[:, None].copy()
    inputs[::3] = -9.0
    kept = inputs[:, 0] != -9.0
    model = keras.Sequential([keras.Input((1,)), keras.layers.Masking(-9.0)])
    model.compile(loss=loss)
    value = model.evaluate(inputs, LABELS, 200, sample_weight=weights, verbose=0)
    given = None if weights is None else weights[kept]
    expected = float(loss(LABELS[kept], inputs[kept], given))
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("loss", BINARY_AND_ROWS, ids=by_name)
def test_candidates_at_once_are_as_one_by_one(loss, jit_compile):
    noise = np.random.default_rng(5).normal(size=(6, 200)).round(1)
    candidates = PREDICTIONS + noise.astype("float32")

    @tf.function(jit_compile=jit_compile)
    def losses(candidates):
        return ops.vectorized_map(lambda y_pred: loss(LABELS, y_pred, WEIGHTS), candidates)

    expected = [float(loss(LABELS, y_pred, WEIGHTS)) for y_pred in candidates]
    assert len(set(expected)) > 1
    np.testing.assert_allclose(losses(candidates), expected, rtol=1e-5)


def test_several_columns_at_once_are_as_one_by_one():
    loss = F1Loss(threshold=None)
    candidates = COLUMNS + np.random.default_rng(5).normal(size=(6, 200, 3)).astype("float32")
    labels = np.eye(3)[CLASSES]
    together = ops.vectorized_map(lambda y_pred: loss(labels, y_pred), candidates)
    np.testing.assert_allclose(together, [loss(labels, y) for y in candidates], rtol=1e-5)


@pytest.mark.parametrize("jit_compile", quick([False, True], False))
@pytest.mark.parametrize(
    "loss",
    [
        ApproximateMedianSignificanceLoss(signal_total=40.0, background_total=400.0),
        AUCLoss(),
        F1Loss(),
        ZeroOneLoss(),
    ],
    ids=by_name,
)
def test_training_by_sampling_improves_the_loss(loss, jit_compile):
    x = np.random.default_rng(0).normal(size=(512, 4)).astype("float32")
    y = (x @ [1.0, -1.0, 0.5, 0.0] > 0.7).astype("float32")
    weights = np.where(y == 1, 0.5, 2.0)
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
    optimizer = MonteCarloOptimizer(0.05, population_size=32, sigma=0.2, seed=1)
    model.compile(optimizer, loss, jit_compile=jit_compile)

    def measure():
        return model.evaluate(x, y, 512, sample_weight=weights, verbose=0)

    before = measure()
    model.fit(x, y, sample_weight=weights, batch_size=100, epochs=10, verbose=0)
    after = measure()
    best = float(loss(y, y, weights))
    assert best - after > 0.8 * (best - before)


def test_gradients_are_refused():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("adam", AUCLoss())
    with pytest.raises(ValueError, match=r"No gradients provided.*MonteCarloOptimizer"):
        model.fit(PREDICTIONS[:, None], LABELS, verbose=0)


@pytest.mark.parametrize("loss", BINARY_AND_ROWS, ids=by_name)
def test_models_with_them_are_saved_and_loaded(loss):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(MonteCarloOptimizer(seed=1), loss, **UNCOMPILED)
    data = {"x": PREDICTIONS[:, None], "y": LABELS, "sample_weight": WEIGHTS, "verbose": 0}
    model.fit(**data)
    loaded = saved_and_loaded(model)
    assert loaded.loss.get_config() == loss.get_config()
    assert loaded.evaluate(**data) == pytest.approx(model.evaluate(**data), rel=1e-5)


# Errors


@pytest.mark.parametrize("loss", [ApproximateMedianSignificanceLoss(), AUCLoss()], ids=by_name)
def test_several_predictions_for_a_row_are_an_error(loss):
    match = rf"{by_name(loss)} needs one prediction for each row.*y_pred.shape=\(200, 3\)"
    with pytest.raises(ValueError, match=match):
        loss(LABELS, COLUMNS)


@pytest.mark.parametrize("loss", BINARY, ids=by_name)
def test_labels_and_weights_that_do_not_fit_are_an_error(loss):
    with pytest.raises(
        ValueError, match=r"`y_true` must have shape \(n,\) or \(n, 1\).*\(200, 3\)"
    ):
        loss(COLUMN_LABELS, PREDICTIONS)
    with pytest.raises(ValueError, match=r"as many labels as predictions.*\(20,\).*\(200,\)"):
        loss(LABELS[:20], PREDICTIONS)
    with pytest.raises(ValueError, match=r"`sample_weight` must have shape.*\(200, 3\)"):
        loss(LABELS, PREDICTIONS, COLUMNS)


def test_wrong_columns_are_an_error():
    with pytest.raises(ValueError, match=r"shape \(n, 3\).*to_categorical.*y_true.shape=\(200,\)"):
        F1Loss()(CLASSES, COLUMNS)
    with pytest.raises(ValueError, match=r"Reshape what has more axes.*\(20, 10, 3\)"):
        F1Loss()(CLASSES, COLUMNS.reshape(20, 10, 3))
    with pytest.raises(ValueError, match=r"F1Loss needs a `threshold` for a single column"):
        F1Loss(threshold=None)(LABELS, PREDICTIONS)
    match = r"`y_true` must have shape \(200,\), \(200, 1\) or \(200, 3\).*y_true.shape=\(200, 2\)"
    with pytest.raises(ValueError, match=match):
        ZeroOneLoss()(np.eye(2)[LABELS], COLUMNS)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ApproximateMedianSignificanceLoss(signal_total=1.0), "Give both"),
        (lambda: ApproximateMedianSignificanceLoss(0.5, 10.0, 0.0, 1.0), "`signal_total` must be"),
        (lambda: ApproximateMedianSignificanceLoss(regularization=-1), "`regularization` must be"),
        (lambda: FBetaLoss("samples"), "`average` must be one of 'macro', 'micro', 'weighted'"),
        (lambda: FBetaLoss(beta=0.0), "`beta` must be greater than 0"),
        (lambda: ZeroOneLoss(float("nan")), "`threshold` must be finite"),
    ],
)
def test_arguments_out_of_range_are_an_error(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("loss", [*BINARY, ZeroOneLoss()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("label", [2.0, -1.0, 0.4, np.nan])
def test_other_labels_are_an_error_or_make_the_loss_nan(loss, label):
    y_true = np.where(np.arange(6) == 4, label, np.arange(6) % 2).astype("float32")[:, None]
    y_pred = np.linspace(0.1, 0.9, 6).astype("float32")[:, None]
    with pytest.raises(ValueError, match=r"`y_true` (of|from) 0 (and|to) 1.*among 6 rows"):
        loss(y_true, y_pred)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Activation("linear")])
    model.compile(loss=loss, **UNCOMPILED)
    assert np.isnan(model.evaluate(y_pred, y_true, verbose=0))
