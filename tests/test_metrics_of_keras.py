"""Keras' own losses and metrics of models that end in a distribution, against NumPy."""

import functools

import keras
import numpy as np
import pytest
from precision import ON_JAX
from probability import seed_of, tf, tfd
from tiers import quick

from keras_extras.layers import (
    Categorical,
    CategoricalMixtureOfOneHotCategorical,
    DistributionLambda,
    IndependentBernoulli,
    IndependentNormal,
    IndependentPoisson,
    OneHotCategorical,
)
from keras_extras.metrics import IntervalCoverage

pytestmark = pytest.mark.both_backends(cases=0)

GENERATOR = np.random.default_rng(3)
X = GENERATOR.normal(size=(50, 4)).astype("float32")
LABELS = (np.argmax(X[:, :3] + GENERATOR.normal(size=(50, 3)), axis=1)).astype("int64")
ONE_HOT = np.eye(3, dtype="float32")[LABELS]
BINARY = (X[:, :1] + GENERATOR.normal(size=(50, 1)) > 0).astype("float32")
SEVERAL = (X[:, :3] + GENERATOR.normal(size=(50, 3)) > 0).astype("float32")
WEIGHTS = GENERATOR.uniform(size=50).astype("float32")
LOGITS = 2.0 * X[:, :3]
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
SIGMOID = 1.0 / (1.0 + np.exp(-LOGITS))
EAGERLY = {"run_eagerly": True}
WAYS = [EAGERLY, {}, {"jit_compile": True}]


def nll(y, rv_y):
    return -rv_y.log_prob(y)


def evaluated(head, y, metrics, num_params=3, loss=nll, way=EAGERLY, **kwargs):
    """What `evaluate` returns by name, with two times the first inputs as parameters."""
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Lambda(lambda x: 2.0 * x[:, :num_params]), head]
    )
    # The same names, but not the same objects twice.
    again = [metric for metric in metrics or [] if isinstance(metric, str)]
    model.compile("sgd", loss, metrics=metrics, weighted_metrics=again, **way)
    # Batches of 16 and one of 2 weigh as many rows as they have.
    return model.evaluate(X, y, batch_size=16, verbose=0, return_dict=True, **kwargs)


CLASS_HEADS = {
    "Categorical": (lambda fn: Categorical(3, fn), [LABELS, LABELS[:, None]]),
    "lambda": (
        lambda fn: DistributionLambda(lambda t: tfd.Categorical(logits=t), fn),
        [LABELS, LABELS[:, None].astype("uint8")],
    ),
    "OneHotCategorical": (lambda fn: OneHotCategorical(3, fn), [ONE_HOT]),
}


@pytest.mark.parametrize("way", quick(WAYS, EAGERLY), ids=str)
@pytest.mark.parametrize("fn", quick(["sample", "mode", "logits", "probs"], "sample", "logits"))
@pytest.mark.parametrize("name", CLASS_HEADS)
def test_accuracy_of_classes(name, fn, way):
    make, targets = CLASS_HEADS[name]
    right = np.argmax(PROBS, axis=1) == LABELS
    for y in targets:
        values = evaluated(make(fn), y, ["accuracy", "acc"], way=way, sample_weight=WEIGHTS)
        weighted = np.average(right, weights=WEIGHTS)
        for metric in ("accuracy", "acc"):
            assert values[metric] == pytest.approx(right.mean(), rel=1e-5)
            assert values[f"weighted_{metric}"] == pytest.approx(weighted, rel=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
def test_accuracy_of_batches_of_a_known_size(rows):
    """Keras takes one row for a binary prediction, and three for probabilities."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), Categorical(3)])
    model.compile(loss=nll, metrics=["accuracy"])
    data = {"x": X[:48], "y": LABELS[:48], "batch_size": rows}
    if not ON_JAX:  # It knows all sizes.
        dataset = tf.data.Dataset.from_tensor_slices((X[:48], LABELS[:48]))
        data = {"x": dataset.batch(rows, drop_remainder=True)}
    value = model.evaluate(**data, verbose=0)[1]
    assert value == pytest.approx(float(np.mean(model(X[:48]).mode() == LABELS[:48])), rel=1e-5)


@pytest.mark.parametrize("way", quick(WAYS, EAGERLY), ids=str)
@pytest.mark.parametrize("fn", quick(["sample", "mean", "logits"], "sample", "logits"))
def test_metrics_of_zeros_and_ones(fn, way):
    metrics = ["accuracy", "binary_crossentropy", keras.metrics.AUC(50, name="auc"), "precision"]
    stock = keras.Sequential(
        [keras.Input((4,)), keras.layers.Lambda(lambda x: keras.ops.sigmoid(2.0 * x[:, :1]))]
    )
    stock.compile(loss="mse", metrics=metrics, weighted_metrics=["accuracy", "precision"])
    options = {"batch_size": 16, "verbose": 0, "return_dict": True, "sample_weight": WEIGHTS}
    expected = stock.evaluate(X, BINARY, **options)
    assert expected["accuracy"] == pytest.approx(np.mean((SIGMOID[:, :1] > 0.5) == BINARY))
    for head, y in (
        (IndependentBernoulli((), fn), BINARY[:, 0]),
        (IndependentBernoulli((), fn), BINARY.astype("int32")),
        (IndependentBernoulli((1,), fn), BINARY),
        (DistributionLambda(lambda t: tfd.Bernoulli(logits=t), fn), BINARY.astype(bool)),
    ):
        values = evaluated(head, y, metrics, num_params=1, way=way, sample_weight=WEIGHTS)
        for name in expected.keys() - {"loss"}:
            assert values[name] == pytest.approx(expected[name], rel=1e-4), name


def test_accuracy_of_several_zeros_and_ones_is_that_of_the_entries():
    values = evaluated(IndependentBernoulli(3), SEVERAL, ["accuracy", "binary_accuracy"])
    expected = np.mean((SIGMOID > 0.5) == SEVERAL)
    assert values["accuracy"] == pytest.approx(expected, rel=1e-5)
    assert values["binary_accuracy"] == pytest.approx(expected, rel=1e-5)


def test_partial_functions_of_keras():
    loss = functools.partial(keras.losses.binary_crossentropy, from_logits=True)
    metric = functools.partial(keras.metrics.binary_accuracy, threshold=0.8)
    values = evaluated(IndependentBernoulli(), BINARY[:, 0], [metric], 1, loss=loss)
    expected = -np.mean(np.log(np.where(BINARY == 1, SIGMOID[:, :1], 1 - SIGMOID[:, :1])))
    assert values.pop("loss") == pytest.approx(expected, rel=1e-4)
    expected = np.mean((SIGMOID[:, :1] > 0.8) == BINARY)
    np.testing.assert_allclose(list(values.values()), [expected], rtol=1e-5)


def test_a_threshold_is_kept():
    metric = keras.metrics.BinaryAccuracy(threshold=0.8, name="accuracy")
    values = evaluated(IndependentBernoulli(), BINARY[:, 0], [metric], num_params=1)
    expected = np.mean((SIGMOID[:, :1] > 0.8) == BINARY)
    assert values["accuracy"] == pytest.approx(expected, rel=1e-5)


def test_metrics_of_labels_and_of_one_hot_targets():
    top_2 = np.mean([label in np.argsort(row)[-2:] for row, label in zip(PROBS, LABELS)])
    crossentropy = -np.mean(np.log(PROBS[np.arange(50), LABELS]))
    right = np.mean(np.argmax(PROBS, axis=1) == LABELS)
    of_labels = [
        "sparse_categorical_accuracy",
        keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top_2"),
        keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="from_logits"),
        keras.metrics.sparse_categorical_crossentropy,
    ]
    expected = [right, top_2, crossentropy, crossentropy]
    for head in (Categorical(3), OneHotCategorical(3)):
        loss = "sparse_categorical_crossentropy"
        values = evaluated(head, LABELS, of_labels, loss=loss)
        names = [of_labels[0], "top_2", "from_logits", "sparse_categorical_crossentropy", "loss"]
        actual = [values[name] for name in names]
        np.testing.assert_allclose(actual, [*expected, crossentropy], rtol=1e-5)
    of_one_hot = [
        "categorical_accuracy",
        keras.metrics.TopKCategoricalAccuracy(k=2, name="top_2"),
        keras.metrics.CategoricalCrossentropy(name="crossentropy_object"),
    ]
    values = evaluated(OneHotCategorical(3), ONE_HOT, of_one_hot)
    names = ["categorical_accuracy", "top_2", "crossentropy_object"]
    np.testing.assert_allclose([values[name] for name in names], expected[:3], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "y", "metric", "match"),
    [
        (
            lambda: Categorical(3),
            LABELS,
            "categorical_accuracy",
            "needs one-hot targets.*are labels",
        ),
        (lambda: Categorical(3), LABELS, "AUC", "needs one-hot.*are labels"),
        (lambda: Categorical(3), LABELS, "binary_accuracy", "needs one-hot.*are labels"),
        (
            lambda: OneHotCategorical(3),
            ONE_HOT,
            "sparse_categorical_accuracy",
            "needs labels.*one-hot",
        ),
        (lambda: IndependentBernoulli(3), SEVERAL, "categorical_accuracy", 'Use "accuracy"'),
        (lambda: IndependentNormal(1), X[:, :1], "accuracy", "needs predictions of classes.*mae"),
    ],
)
def test_metrics_of_something_else_are_refused(make, y, metric, match):
    head = make()
    num_params = 2 if isinstance(head, IndependentNormal) else 3
    with pytest.raises(ValueError, match=match):
        evaluated(head, y, [metric], num_params)


@pytest.mark.parametrize("name", ["crossentropy", "ce"])
def test_crossentropy_as_the_loss(name):
    expected = -np.mean(np.log(PROBS[np.arange(50), LABELS]))
    for head, y in (
        (Categorical(3), LABELS),
        (Categorical(3), LABELS[:, None]),
        (OneHotCategorical(3), LABELS),
        (OneHotCategorical(3), ONE_HOT),
    ):
        value = evaluated(head, y, None, loss=name)["loss"]
        assert value == pytest.approx(expected, rel=1e-5)
    p = SIGMOID[:, 0]
    expected = -np.log(np.where(BINARY[:, 0] == 1, p, 1 - p))
    for loss in (name, "binary_crossentropy", keras.losses.BinaryCrossentropy(from_logits=True)):
        values = evaluated(
            IndependentBernoulli(), BINARY, None, 1, loss=loss, sample_weight=WEIGHTS
        )
        assert values["loss"] == pytest.approx(np.mean(WEIGHTS * expected), rel=1e-4)
    with pytest.raises(ValueError, match="NegativeLogLikelihood"):
        evaluated(IndependentNormal(1), X[:, :1], None, 2, loss=name)


@pytest.mark.parametrize("way", quick(WAYS, EAGERLY), ids=str)
def test_metrics_of_numbers_see_the_chosen_tensor(way):
    y = X[:, 0] + X[:, 1]
    metrics = ["mse", "mae", keras.metrics.RootMeanSquaredError(name="rmse"), "r2_score"]
    error = 2.0 * X[:, 0] - y
    weighted = np.average(error**2, weights=WEIGHTS)
    for targets in (y, y[:, None]):
        head = DistributionLambda(lambda t: tfd.Normal(t[:, 0], 1.0), "mean")
        values = evaluated(head, targets, metrics, way=way, sample_weight=WEIGHTS, loss="mse")
        assert values["loss"] == pytest.approx(np.mean(WEIGHTS * error**2), rel=1e-5)
        assert values["mse"] == pytest.approx(np.mean(error**2), rel=1e-5)
        assert values["mae"] == pytest.approx(np.mean(abs(error)), rel=1e-5)
        assert values["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
        assert values["r2_score"] == pytest.approx(1 - np.mean(error**2) / np.var(y), rel=1e-4)
        assert values["weighted_mse"] == pytest.approx(weighted, rel=1e-5)


def test_counts():
    counts = GENERATOR.poisson(np.exp(2.0 * X[:, 0])).astype("int64")
    values = evaluated(IndependentPoisson((), "mean"), counts, ["mae"], 1)
    assert values["mae"] == pytest.approx(np.mean(abs(np.exp(2.0 * X[:, 0]) - counts)), rel=1e-5)
    metric = keras.metrics.Accuracy(name="exactly")
    values = evaluated(IndependentPoisson((), "mode"), counts, [metric], 1)
    assert values["exactly"] == pytest.approx(np.mean(np.floor(np.exp(2.0 * X[:, 0])) == counts))
    with pytest.raises(ValueError, match=r"(?s)'accuracy' needs predictions of classes.*Poisson"):
        evaluated(IndependentPoisson((), "mean"), counts, ["accuracy"], 1)
    head = DistributionLambda(lambda t: tfd.Multinomial(5.0, logits=t), "mean")
    drawn = np.asarray(tfd.Multinomial(5.0, probs=PROBS).sample(seed=seed_of(1)))
    with pytest.raises(ValueError, match=r"(?s)needs predictions of classes.*Multinomial"):
        evaluated(head, drawn, ["accuracy"])


def test_targets_of_another_shape_are_no_numbers_to_compare():
    def first(y, rv_y):
        return -rv_y.log_prob(y[:, :1])

    head = DistributionLambda(lambda t: tfd.Normal(t[:, :1], 1.0), "mean")
    with pytest.raises(ValueError, match="cannot pair targets"):
        evaluated(head, X[:, :2], ["mae"], loss=first)


def test_several_outputs():
    inputs = keras.Input((4,))
    outputs = {
        "label": Categorical(3, name="label")(keras.layers.Dense(3)(inputs)),
        "binary": IndependentBernoulli(name="binary")(keras.layers.Dense(1)(inputs)),
        "plain": keras.layers.Dense(3, "softmax", name="plain")(inputs),
    }
    y = {"label": LABELS, "binary": BINARY[:, 0], "plain": LABELS}
    for as_list in (False, True):
        model = keras.Model(inputs, list(outputs.values()) if as_list else outputs)
        losses = {"label": nll, "binary": nll, "plain": "sparse_categorical_crossentropy"}
        metrics = {"label": ["accuracy"], "binary": "acc", "plain": ["accuracy"]}
        model.compile("sgd", losses, metrics=list(metrics.values()) if as_list else metrics)
        values = model.evaluate(X, y, verbose=0, return_dict=True)
        predicted = model(X) if as_list else [model(X)[name] for name in y]
        label, binary, plain = predicted
        assert values["label_accuracy"] == pytest.approx(float(np.mean(label.mode() == LABELS)))
        expected = np.mean((np.asarray(binary.mean()) > 0.5) == BINARY[:, 0])
        assert values["binary_acc"] == pytest.approx(expected)
        assert values["plain_accuracy"] == pytest.approx(
            np.mean(np.argmax(plain, axis=1) == LABELS)
        )


def test_sequences_with_masked_steps():
    x = GENERATOR.normal(size=(8, 5, 3)).astype("float32")
    x[:, 3:] = 0.0
    labels = GENERATOR.integers(0, 3, size=(8, 5))
    expected = np.mean(np.argmax(x, axis=-1)[:, :3] == labels[:, :3])
    for weights in (None, np.ones((8, 5), "float32")):
        model = keras.Sequential([keras.Input((5, 3)), keras.layers.Masking(), Categorical(3)])
        model.compile(loss=nll, metrics=["accuracy"], weighted_metrics=["acc", "mse"])
        values = model.evaluate(x, labels, sample_weight=weights, verbose=0, return_dict=True)
        assert values["accuracy"] == pytest.approx(expected, rel=1e-5)
        assert values["acc"] == pytest.approx(expected, rel=1e-5)


def test_mixtures_of_classes():
    head = CategoricalMixtureOfOneHotCategorical(3, 2)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(head.params_size(3, 2)), head])
    model.compile(loss=nll, metrics=["accuracy"])
    expected = float(np.mean(np.argmax(model(X).mean(), axis=1) == LABELS))
    assert model.evaluate(X, ONE_HOT, verbose=0)[1] == pytest.approx(expected, rel=1e-5)

    def make(t):
        components = tfd.Bernoulli(logits=t[:, :2])
        return tfd.MixtureSameFamily(tfd.Categorical(probs=[0.3, 0.7]), components)

    values = evaluated(DistributionLambda(make), BINARY[:, 0], ["accuracy"])
    expected = np.mean((SIGMOID[:, :2] @ [0.3, 0.7] > 0.5) == BINARY[:, 0])
    assert values["accuracy"] == pytest.approx(expected, rel=1e-5)


def test_outside_of_models():
    metric = keras.metrics.BinaryAccuracy()
    metric.update_state(BINARY, IndependentBernoulli()(LOGITS[:, :1]))
    expected = np.mean((SIGMOID[:, :1] > 0.5) == BINARY)
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


def test_canary_metrics_of_keras_are_wrapped():
    """Fails when Keras' metrics of predictions no longer pass through methods that are wrapped."""
    IndependentBernoulli()
    values_only = {"Metric", "Mean", "Sum"}
    for name, cls in vars(keras.metrics).items():
        if isinstance(cls, type) and issubclass(cls, keras.metrics.Metric):
            is_wrapped = hasattr(cls.update_state, "__wrapped__")
            assert is_wrapped == (name not in values_only), name


HEADS_OF_NUMBERS = {
    "Poisson": (lambda: IndependentPoisson(1), 1, 4),
    "tfd.Poisson": (lambda: DistributionLambda(lambda t: tfd.Poisson(log_rate=t[:, 0])), 1, 4),
    "Categorical": (lambda: Categorical(3), 3, 3),
    "Normal": (lambda: IndependentNormal(1), 2, 4),
    "tfd.Normal": (lambda: DistributionLambda(lambda t: tfd.Normal(t[:, 0], 1.0)), 1, 4),
    "Bernoulli": (IndependentBernoulli, 1, 2),
}


@pytest.mark.parametrize("dtype", quick(["int32", "int64", "uint8", "bool"], "int64", "bool"))
@pytest.mark.parametrize("name", HEADS_OF_NUMBERS)
def test_functions_as_metrics_of_integer_targets(name, dtype):
    make, num_params, bound = HEADS_OF_NUMBERS[name]
    y = GENERATOR.integers(0, bound if dtype != "bool" else 2, size=50)
    rv = make()(2.0 * X[:, :num_params])
    shape = tuple(rv.batch_shape + rv.event_shape)
    expected = -np.mean(rv.log_prob(y.reshape(shape).astype("float32")))
    for targets in (y.astype(dtype), y.astype(dtype)[:, None]):
        values = evaluated(make(), targets, [nll], num_params)
        np.testing.assert_allclose([values["loss"], values["nll"]], expected, rtol=1e-5)


def test_a_metric_of_intervals_for_each_level():
    levels = (0.5, 0.9)
    metrics = [IntervalCoverage(level, name=f"coverage_{level}") for level in levels]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), IndependentNormal(1)])
    model.compile(loss=nll, metrics=metrics)
    values = model.evaluate(X, X[:, :1], verbose=0)[1:]
    low_and_high = [
        [model(X).quantile(0.5 + side * level / 2) for side in (-1, 1)] for level in levels
    ]
    expected = [np.mean((low <= X[:, :1]) & (X[:, :1] <= high)) for low, high in low_and_high]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def updated(metric, y, prediction):
    metric.update_state(y, prediction, sample_weight=WEIGHTS)
    return np.asarray(metric.result())


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: keras.metrics.AUC(50), "one-hot"),
        (lambda: keras.metrics.F1Score(average="macro"), "one-hot"),
        (lambda: keras.metrics.Precision(top_k=1), "one-hot"),
        (lambda: keras.metrics.CategoricalHinge(), "one-hot"),
        (lambda: keras.metrics.KLDivergence(), "one-hot"),
        (lambda: keras.metrics.TopKCategoricalAccuracy(2), "one-hot"),
        (lambda: keras.metrics.OneHotMeanIoU(3, dtype="float32"), "one-hot"),
        (lambda: keras.metrics.MeanIoU(3, sparse_y_pred=False, dtype="float32"), "labels"),
        (lambda: keras.metrics.SparseTopKCategoricalAccuracy(2), "labels"),
        (lambda: keras.metrics.F1Score(threshold=0.5), "binary"),
        (lambda: keras.metrics.Recall(), "binary"),
        (lambda: keras.metrics.TruePositives(), "binary"),
        (lambda: keras.metrics.SensitivityAtSpecificity(0.5), "binary"),
        (lambda: keras.metrics.BinaryIoU(threshold=0.4, dtype="float32"), "binary"),
    ],
)
def test_objects_of_keras_equal_themselves_on_probabilities(make, kind):
    if kind == "binary":
        expected = updated(make(), BINARY, SIGMOID[:, :1])
        predictions = [
            IndependentBernoulli()(LOGITS[:, :1]),
            IndependentBernoulli(1)(LOGITS[:, :1]),
        ]
        targets = BINARY
    else:
        targets = ONE_HOT if kind == "one-hot" else LABELS
        expected = updated(make(), targets, PROBS)
        predictions = [Categorical(3)(LOGITS), OneHotCategorical(3, "mode")(LOGITS)]
    for prediction in predictions:
        np.testing.assert_allclose(updated(make(), targets, prediction), expected, rtol=1e-4)
