"""BrierScore: scikit-learn's numbers in every form of labels and predictions."""

import keras
import numpy as np
import pytest
from keras import ops
from probability import tfd

from keras_extras import metrics
from keras_extras._core.masks import with_mask

sklearn_metrics = pytest.importorskip("sklearn.metrics")

RNG = np.random.default_rng(0)


def _score(y_true, y_pred, weight=None, **arguments):
    metric = metrics.BrierScore(**arguments)
    metric.update_state(y_true, y_pred, weight)
    return float(metric.result())


def _softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


@pytest.mark.both_backends
@pytest.mark.parametrize("weighted", [False, True])
def test_several_classes(weighted):
    logits = RNG.normal(size=(60, 4)).astype("float32")
    labels = RNG.integers(4, size=60)
    weight = RNG.uniform(size=60) if weighted else None
    p = _softmax(logits)
    expected = np.average(np.sum((p - np.eye(4)[labels]) ** 2, axis=1), weights=weight)
    for y_true in (labels, labels[:, None], np.eye(4)[labels]):
        assert _score(y_true, p, weight) == pytest.approx(expected, rel=1e-5)
        assert _score(y_true, logits, weight, from_logits=True) == pytest.approx(expected, rel=1e-5)


@pytest.mark.both_backends
def test_two_classes_are_the_same_in_one_column_and_in_two():
    logit = RNG.normal(size=50).astype("float32")
    labels, weight = RNG.integers(2, size=50), RNG.uniform(size=50)
    p = 1.0 / (1.0 + np.exp(-logit))
    expected = sklearn_metrics.brier_score_loss(labels, p, sample_weight=weight)
    forms = [(labels, p), (labels[:, None], p[:, None]), (labels, np.c_[1 - p, p])]
    forms.append((np.eye(2)[labels], np.c_[1 - p, p]))
    for y_true, y_pred in forms:
        assert _score(y_true, y_pred, weight) == pytest.approx(expected, rel=1e-5)
        assert _score(y_true, y_pred, weight[:, None]) == pytest.approx(expected, rel=1e-5)
    for y_pred in (logit, logit[:, None], np.c_[np.zeros(50), logit]):
        assert _score(labels, y_pred, weight, from_logits=True) == pytest.approx(expected, rel=1e-5)


@pytest.mark.both_backends
def test_sequences_with_masks_and_weights():
    p = _softmax(RNG.normal(size=(6, 5, 3))).astype("float32")
    labels, mask = RNG.integers(3, size=(6, 5)), RNG.uniform(size=(6, 5)) > 0.4
    weight = RNG.uniform(size=6)
    p[~mask] = np.nan  # what is masked does not count
    of_entries = np.sum((p - np.eye(3)[labels]) ** 2, axis=-1)[mask]
    kept = (mask * weight[:, None])[mask]
    y_pred = with_mask(ops.convert_to_tensor(p), ops.convert_to_tensor(mask))
    for y_true in (labels, labels[..., None], np.eye(3)[labels]):
        assert _score(y_true, y_pred) == pytest.approx(of_entries.mean(), rel=1e-5)
        expected = np.average(of_entries, weights=kept)
        for form in (weight, weight[:, None], np.repeat(weight[:, None], 5, axis=1)):
            assert _score(y_true, y_pred, form) == pytest.approx(expected, rel=1e-5)


@pytest.mark.both_backends
def test_in_fit_with_a_mask():
    tokens = np.array([[1, 2, 0, 0], [3, 1, 2, 0]])
    y = np.array([[1, 0, 1, 1], [0, 0, 1, 1]])
    embedding = keras.layers.Embedding(4, 2, mask_zero=True)
    model = keras.Sequential(
        [keras.Input((4,), dtype="int32"), embedding, keras.layers.Dense(2, "softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=[metrics.BrierScore()])
    p = model.predict(tokens, verbose=0)
    mask = tokens > 0
    expected = np.mean((p[..., 1] - y)[mask] ** 2)
    result = model.evaluate(tokens, y, return_dict=True, verbose=0)
    assert result["brier_score"] == pytest.approx(expected, rel=1e-5)


def test_of_distributions_in_a_compiled_model():
    from keras_extras import layers

    x = RNG.normal(size=(64, 2)).astype("float32")
    labels = (x[:, 0] > 0).astype("int32")
    heads = {"categorical": layers.Categorical(2), "one-hot": layers.OneHotCategorical(2)}
    for head in (*heads.values(), layers.IndependentBernoulli((1,))):
        units = 1 if isinstance(head, layers.IndependentBernoulli) else 2
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units), head])
        y = np.eye(2)[labels] if head is heads["one-hot"] else labels
        y = y[:, None] if units == 1 else y
        model.compile(
            "adam",
            lambda y, rv_y: -rv_y.log_prob(y),
            metrics=[metrics.BrierScore()],
            jit_compile=True,
        )
        logits = model.layers[0](x).numpy()
        p = 1 / (1 + np.exp(-logits[:, 0])) if units == 1 else _softmax(logits)[:, 1]
        expected = np.mean((p - labels) ** 2)
        assert model.evaluate(x, y, verbose=0)[1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.both_backends
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_sums_have_at_least_single_precision(dtype):
    metric = metrics.BrierScore(dtype=dtype)
    for _ in range(3):
        metric.update_state([0.0, 1.0], [0.5, 0.5], [70_000.0, 30_000.0])
    assert float(metric.result()) == pytest.approx(0.25, rel=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0.0


@pytest.mark.both_backends
@pytest.mark.parametrize(
    ("y_true", "y_pred", "weight", "received"),
    [
        ([0.0, 2.0], [0.2, 0.9], [1.0, 1.0], r"labels `y_true` from 0 to 1.*y_true=.2.0."),
        ([0.0, 0.5], [0.2, 0.9], [1.0, 1.0], "among 2 rows"),
        ([0.0, np.nan], [0.2, 0.9], [1.0, 1.0], "among 2 rows"),
        ([0.0, 1.0], [0.2, 1.9], [1.0, 1.0], r"or `from_logits=True`.*y_pred=\[\[-0.89"),
        ([0.0, 1.0], [[0.9, 0.8], [0.1, 0.9]], [1.0, 1.0], "that sum to 1"),
        ([[1.0, 1.0], [0.0, 1.0]], [[0.5, 0.5], [0.1, 0.9]], [1.0, 1.0], "or one-hot"),
        ([0.0, 1.0], [0.2, 0.9], [1.0, -1.0], "sample_weight=.-1.0."),
        ([[0.0, 1.0, 0.0]], [[0.5, 0.5]], [1.0], r"`y_true` must hold labels.*\(1, 3\)"),
        ([0.0, 1.0], [0.2], [1.0], "as many rows"),
    ],
)
def test_bad_input_is_refused(y_true, y_pred, weight, received):
    arrays = [np.array(values, "float32") for values in (y_true, y_pred, weight)]
    with pytest.raises(ValueError, match=received):
        metrics.BrierScore().update_state(*arrays)


@pytest.mark.both_backends
def test_rows_without_weight_do_not_count():
    for y_true, y_pred in (([1.0, 7.0], [0.9, 0.5]), ([1.0, 1.0], [0.9, np.nan])):
        assert _score(y_true, y_pred, [1.0, 0.0]) == pytest.approx(0.01, rel=1e-5)


@pytest.mark.both_backends
def test_what_is_no_classifier_is_refused():
    with pytest.raises(TypeError, match="probabilities, or a distribution `Bernoulli`"):
        metrics.BrierScore().update_state([0, 1], tfd.Normal([0.0, 1.0], 1.0))
    with pytest.raises(TypeError, match="`from_logits` must be True or False"):
        metrics.BrierScore(from_logits="yes")
