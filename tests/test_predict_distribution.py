"""Predictions from many draws of the weights."""

import gc
import sys
import weakref

import keras
import numpy as np
import pytest
from keras import ops
from precision import ON_JAX
from probability import seed_of, tfd

import keras_extras
from keras_extras import layers
from keras_extras.inference import (
    PosteriorPredictive,
    posterior_predictive,
    predict_distribution,
)

pytestmark = pytest.mark.both_backends(cases=1)


_X = np.random.default_rng(0).normal(size=(11, 3)).astype("float32")


def make_model(hidden=None, head=None, outputs=2):
    """A small network whose first layer is random."""
    keras.utils.set_random_seed(2)
    first = hidden or layers.DenseReparameterization(
        8,
        "tanh",
        kernel_posterior_fn=layers.default_mean_field_normal_fn(
            untransformed_scale_initializer=keras.initializers.Constant(-0.5)
        ),
    )
    stack = [keras.Input((3,)), first, keras.layers.Dense(outputs)]
    return keras.Sequential([*stack, layers.IndependentNormal(1) if head is None else head])


def test_the_mixture_is_that_of_single_calls():
    model = make_model()
    prediction = predict_distribution(model, _X, num_samples=4000, seed=1)
    assert isinstance(prediction, PosteriorPredictive)
    assert isinstance(prediction, tfd.MixtureSameFamily)
    assert (prediction.batch_shape, prediction.event_shape) == ((11,), (1,))
    calls = [model(_X) for _ in range(600)]
    means = np.array([call.mean() for call in calls])
    variances = np.array([call.variance() for call in calls])
    pairs = ((prediction.mean(), means), (prediction.aleatoric_variance(), variances))
    for of_mixture, of_calls in pairs:
        error = of_calls.std(0) * np.sqrt(1 / 600 + 1 / 4000)
        z = np.abs(of_mixture - of_calls.mean(0)) / error
        assert z.max() < 4.5, f"the largest |z| is {z.max()}"
    np.testing.assert_allclose(prediction.epistemic_variance(), means.var(0), rtol=0.2)


def test_the_law_of_total_variance_is_exact():
    prediction = predict_distribution(make_model(), _X, num_samples=50, seed=1)
    total = prediction.aleatoric_variance() + prediction.epistemic_variance()
    np.testing.assert_allclose(total, prediction.variance(), rtol=1e-4)
    np.testing.assert_allclose(prediction.stddev() ** 2, prediction.variance(), rtol=1e-5)


def test_a_draw_is_one_function_of_all_rows_whatever_the_batches():
    model = make_model()
    whole, parts = (
        predict_distribution(model, _X, num_samples=20, seed=3, batch_size=size) for size in (11, 4)
    )
    np.testing.assert_allclose(
        whole.components_distribution.mean(), parts.components_distribution.mean(), rtol=1e-5
    )


def test_seeds():
    model = make_model()

    def mean(**arguments):
        return np.asarray(predict_distribution(model, _X, num_samples=5, **arguments).mean())

    np.testing.assert_array_equal(mean(seed=1), mean(seed=1))
    assert not np.array_equal(mean(seed=1), mean(seed=2))
    keras.utils.set_random_seed(4)
    first = mean()
    assert not np.array_equal(first, mean())
    keras.utils.set_random_seed(4)
    np.testing.assert_array_equal(first, mean())


def test_prediction_leaves_the_model_as_it_is():
    model = make_model()
    before = [np.asarray(variable) for variable in model.variables]
    predict_distribution(model, _X, num_samples=3, seed=1)
    for variable, value in zip(model.variables, before, strict=True):
        if variable.name != "seed_generator_state":  # a call to learn the shapes draws, too
            np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize(
    "hidden",
    [
        lambda: layers.DenseFlipout(8),
        lambda: layers.DenseLocalReparameterization(8),
        lambda: layers.DenseVariational(8, posterior="multivariate_normal"),
        lambda: layers.MCDropout(0.4),
        lambda: keras.Sequential([layers.MCDropout(0.4), layers.DenseFlipout(3)]),
    ],
    ids=["Flipout", "local", "DenseVariational", "MCDropout", "nested"],
)
def test_every_random_layer_gives_draws_that_differ(hidden):
    prediction = predict_distribution(make_model(hidden()), _X, num_samples=30, seed=1)
    assert prediction.num_samples == 30
    assert np.all(np.asarray(prediction.epistemic_variance()) > 0.0)


def test_a_convolution():
    images = np.random.default_rng(1).normal(size=(5, 6, 6, 2)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Convolution2DFlipout(3, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
            layers.OneHotCategorical(4),
        ]
    )
    prediction = predict_distribution(model, images, num_samples=10, seed=1)
    np.testing.assert_allclose(np.sum(prediction.mean(), axis=1), 1.0, rtol=1e-5)


def test_a_model_without_randomness_has_one_component():
    prediction = predict_distribution(make_model(keras.layers.Dense(8)), _X, num_samples=30)
    assert prediction.num_samples == 1
    assert np.all(np.asarray(prediction.epistemic_variance()) == 0.0)
    assert np.all(np.asarray(prediction.aleatoric_variance()) > 0.0)


def test_dropout_of_keras_is_off_as_in_prediction():
    variance = predict_distribution(make_model(keras.layers.Dropout(0.5)), _X).epistemic_variance()
    assert np.all(np.asarray(variance) < 1e-10)


def test_an_ensemble_of_models():
    members = [make_model(keras.layers.Dense(8)) for _ in range(3)]
    for number, member in enumerate(members):
        member.layers[-2].bias.assign([number, 0.0])
    prediction = predict_distribution(members, _X)
    means = np.array([member(_X).mean() for member in members])
    assert prediction.num_samples == 3
    np.testing.assert_allclose(prediction.mean(), means.mean(0), rtol=1e-5)
    np.testing.assert_allclose(prediction.epistemic_variance(), means.var(0), rtol=1e-4)


def test_random_members_are_drawn_each():
    prediction = predict_distribution([make_model(), make_model()], _X, num_samples=7)
    assert prediction.num_samples == 14


def test_outputs_without_a_distribution_are_points():
    model = make_model(head=keras.layers.Dense(1))
    prediction = predict_distribution(model, _X, num_samples=200, seed=1)
    assert np.all(np.asarray(prediction.aleatoric_variance()) == 0.0)
    draws = np.asarray(prediction.components_distribution.mean())
    lower, upper = prediction.interval(0.8)
    np.testing.assert_allclose(lower, np.quantile(draws, 0.1, axis=1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(upper, np.quantile(draws, 0.9, axis=1), rtol=1e-3, atol=1e-4)
    with pytest.raises(NotImplementedError, match=r"no likelihood.*`likelihood`"):
        prediction.log_prob(np.zeros((11, 1), "float32"))


def test_a_likelihood_may_be_given():
    model = make_model(head=keras.layers.Dense(1))
    prediction = predict_distribution(
        model,
        _X,
        num_samples=20,
        seed=1,
        likelihood=lambda outputs: tfd.Independent(tfd.Normal(outputs, 0.5), 1),
    )
    np.testing.assert_allclose(prediction.aleatoric_variance(), 0.25, rtol=1e-5)
    assert prediction.log_prob(np.zeros((11, 1), "float32")).shape == (11,)


@pytest.mark.parametrize(
    "make",
    [
        lambda t: tfd.Normal(t[..., :1], 1.0 + t[..., 1:] ** 2),
        lambda t: tfd.Normal(t[:, :1], 1.0 + t[:, 1:] ** 2),
        lambda t: tfd.Normal(t[:, 0], 1.0 + t[:, 1] ** 2),
    ],
    ids=["last axis", "columns", "numbers"],
)
@pytest.mark.parametrize("num_samples", [1, 2, 6])
def test_functions_of_the_users_that_count_axes_from_either_side(make, num_samples):
    model = make_model(head=layers.DistributionLambda(make))
    prediction = predict_distribution(model, _X, num_samples=num_samples, seed=1)
    reference = predict_distribution(
        make_model(
            head=layers.DistributionLambda(lambda t: tfd.Normal(t[..., 0], 1 + t[..., 1] ** 2))
        ),
        _X,
        num_samples=num_samples,
        seed=1,
    )
    assert prediction.batch_shape == (11,)
    mean = ops.reshape(prediction.mean(), (-1,))
    np.testing.assert_allclose(mean, reference.mean(), rtol=1e-5)
    targets = np.zeros(prediction.mean().shape, "float32")
    np.testing.assert_allclose(
        prediction.log_prob(targets), reference.log_prob(np.zeros(11, "float32")), rtol=1e-4
    )


def entropy(p, axis=-1):
    return -np.sum(p * np.log(p), axis=axis)


def test_mutual_information_of_classes():
    model = make_model(head=layers.OneHotCategorical(4), outputs=4)
    prediction = predict_distribution(model, _X, num_samples=40, seed=1)
    p = np.asarray(prediction.components_distribution.mean(), "float64")
    expected = entropy(p.mean(1)) - entropy(p).mean(1)
    np.testing.assert_allclose(prediction.mutual_information(), expected, rtol=1e-3, atol=1e-6)


def test_mutual_information_of_a_binary_label():
    model = make_model(head=layers.IndependentBernoulli(1), outputs=1)
    prediction = predict_distribution(model, _X, num_samples=40, seed=1)
    p = np.asarray(prediction.components_distribution.mean(), "float64")
    p = np.concatenate([p, 1.0 - p], axis=-1)
    expected = entropy(p.mean(1)) - entropy(p).mean(1)
    information = prediction.mutual_information()
    np.testing.assert_allclose(information[:, 0], expected, rtol=1e-3, atol=1e-6)


def test_mutual_information_needs_classes():
    with pytest.raises(TypeError, match="needs a model of classes"):
        predict_distribution(make_model(), _X).mutual_information()


def test_quantiles_and_intervals_cover_what_they_say():
    prediction = predict_distribution(make_model(), _X, num_samples=100, seed=1)
    draws = np.asarray(prediction.sample(20_000, seed=seed_of(0, 1)))
    for level in (0.5, 0.9):
        lower, upper = prediction.interval(level)
        coverage = np.mean((draws >= lower) & (draws <= upper), axis=0)
        assert np.abs(coverage - level).max() < 0.02, coverage
    both = prediction.quantile([0.05, 0.95])
    np.testing.assert_allclose(both, np.stack(prediction.interval(0.9)), rtol=1e-4)
    np.testing.assert_allclose(prediction.quantile(np.array(0.05)), both[0], rtol=1e-4)
    with pytest.raises(ValueError, match=r"`value` must be at least 0 and at most 1.*value=1.5"):
        prediction.quantile([0.1, 1.5])


def test_our_metrics_take_predictions():
    prediction = predict_distribution(make_model(), _X, num_samples=30, seed=1)
    y = np.zeros((11, 1), "float32")
    metric = keras_extras.metrics.NegativeLogLikelihood()
    metric.update_state(y, prediction)
    np.testing.assert_allclose(metric.result(), -np.mean(prediction.log_prob(y)), rtol=1e-5)
    coverage = keras_extras.metrics.IntervalCoverage(level=0.9)
    coverage.update_state(y, prediction)
    lower, upper = prediction.interval(0.9)
    expected = np.mean((np.asarray(lower) <= 0.0) & (np.asarray(upper) >= 0.0))
    np.testing.assert_allclose(coverage.result(), expected)


def test_several_inputs():
    one, other = keras.Input((3,), name="one"), keras.Input((2,), name="other")
    joined = keras.layers.Concatenate()([layers.DenseFlipout(4)(one), other])
    model = keras.Model(
        {"one": one, "other": other}, layers.IndependentNormal(1)(keras.layers.Dense(2)(joined))
    )
    x = {"one": _X, "other": _X[:, :2]}
    assert predict_distribution(model, x, num_samples=5, batch_size=4).mean().shape == (11, 1)


def test_a_second_call_compiles_nothing_anew(monkeypatch):
    model = make_model()
    predict_distribution(model, _X, num_samples=3)
    module = sys.modules["keras_extras.inference.predict_distribution"]
    monkeypatch.setattr(module, "_all_draws", None)  # would be needed to trace
    # JAX compiles for each length.
    length, num_samples = (11, 3) if ON_JAX else (7, 9)
    prediction = predict_distribution(model, _X[:length], num_samples=num_samples)
    assert (prediction.batch_shape, prediction.num_samples) == ((length,), num_samples)


def test_compiled_functions_go_with_their_model():
    model = make_model()
    predict_distribution(model, _X, num_samples=3)
    reference = weakref.ref(model)
    del model
    keras.utils.clear_session()
    gc.collect()
    assert reference() is None


def test_new_weights_are_seen_at_once():
    model = make_model(keras.layers.Dense(8))
    before = predict_distribution(model, _X).mean()
    model.layers[-2].bias.assign_add([1.0, 0.0])
    np.testing.assert_allclose(predict_distribution(model, _X).mean(), before + 1.0, rtol=1e-4)


@pytest.mark.parametrize("head", [layers.IndependentNormal(1), None], ids=["head", "function"])
def test_quantiles_of_some_rows_at_a_time(head, monkeypatch):
    model = make_model(head=head or layers.DistributionLambda(_normal_of_columns))
    prediction = predict_distribution(model, _X, num_samples=6, seed=1)
    together = prediction.interval([0.5, 0.9])
    monkeypatch.setattr(posterior_predictive, "_AT_ONCE", 6 * 4)  # Four rows.
    for actual, expected in zip(prediction.interval([0.5, 0.9]), together):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def _normal_of_columns(parameters):
    return tfd.Normal(parameters[:, :1], ops.softplus(parameters[:, 1:]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_samples": 0}, ValueError, "`num_samples` must be at least 1"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"x": _X[:0]}, ValueError, "`x` must have rows"),
        ({"x": iter([_X])}, TypeError, "Of a `tf.data.Dataset`"),
        ({"x": [[1.0, 2.0, 3.0]]}, TypeError, "with one row for each example"),
        ({"model": "model"}, TypeError, "`model` must be a Keras model"),
        ({"model": []}, ValueError, "an empty list"),
        ({"likelihood": lambda outputs: outputs}, TypeError, "must return a distribution"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        predict_distribution(**{"model": make_model(), "x": _X, **arguments})


def test_models_of_an_ensemble_must_be_alike():
    with pytest.raises(ValueError, match="must end in the same layer"):
        predict_distribution([make_model(), make_model(head=layers.IndependentLaplace(1))], _X)


def test_models_with_several_outputs_are_refused():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, [keras.layers.Dense(1)(inputs), keras.layers.Dense(1)(inputs)])
    with pytest.raises(ValueError, match="`model` must have one output"):
        predict_distribution(model, _X)


def test_mutual_information_of_few_draws_of_many_classes():
    members = [keras.Sequential([keras.Input((3,)), keras.layers.Dense(10)]) for _ in range(3)]
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    prediction = keras_extras.predict_distribution(
        members, x, likelihood=lambda outputs: tfd.Categorical(logits=outputs)
    )
    p = np.stack([np.asarray(keras.ops.softmax(member(x))) for member in members])

    def entropy(p):
        return -np.sum(p * np.log(p), axis=-1)

    expected = entropy(p.mean(axis=0)) - entropy(p).mean(axis=0)
    np.testing.assert_allclose(prediction.mutual_information(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["Categorical", "OneHotCategorical", "Independent", "one hot"])
@pytest.mark.parametrize("draws", [4, 7])
def test_mutual_information_of_several_labels_a_row(kind, draws):
    make = tfd.OneHotCategorical if "hot" in kind.lower() else tfd.Categorical

    def likelihood(outputs):
        labels = make(logits=outputs)
        return labels if kind.endswith("Categorical") else tfd.Independent(labels, 1)

    members = [
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(12), keras.layers.Reshape((3, 4))])
        for _ in range(draws)
    ]
    prediction = keras_extras.predict_distribution(members, _X, likelihood=likelihood)
    p = np.stack([np.asarray(keras.ops.softmax(member(_X))) for member in members])
    expected = entropy(p.mean(axis=0)) - entropy(p).mean(axis=0)
    assert expected.shape == (len(_X), 3)
    np.testing.assert_allclose(prediction.mutual_information(), expected, atol=1e-5)


def test_a_likelihood_is_for_models():
    class Fitted:
        def predict_distribution(self, x, **options):
            raise AssertionError

    with pytest.raises(ValueError, match="`likelihood` is for models; Fitted has its own"):
        keras_extras.predict_distribution(Fitted(), np.zeros((1, 1)), likelihood=tfd.Normal)


_CLASS_HEADS = {
    "Categorical": (lambda: layers.Categorical(3), 3),
    "OneHotCategorical": (lambda: layers.OneHotCategorical(3), 3),
    "IndependentBernoulli": (layers.IndependentBernoulli, 1),
    "IndependentBernoulli(1)": (lambda: layers.IndependentBernoulli(1), 1),
    "DistributionLambda": (
        lambda: layers.DistributionLambda(lambda t: tfd.Categorical(logits=t)),
        3,
    ),
}


@pytest.mark.parametrize("name", _CLASS_HEADS)
def test_class_probabilities_their_entropy_mode_and_calibration(name):
    make, outputs = _CLASS_HEADS[name]
    prediction = predict_distribution(make_model(head=make(), outputs=outputs), _X, 20, seed=1)
    labels = np.random.default_rng(3).integers(0, 3 if outputs == 3 else 2, size=11)
    p = []
    for label in range(3 if outputs == 3 else 2):
        value = np.full(prediction.batch_shape + prediction.event_shape, label, "float32")
        if name == "OneHotCategorical":
            value = np.eye(3, dtype="float32")[[label] * 11]
        p.append(np.exp(np.asarray(prediction.log_prob(value), "float64")))
    p = np.stack(p, axis=-1)  # by the density of the mixture
    np.testing.assert_allclose(p.sum(axis=-1), 1.0, rtol=1e-5)
    given = np.reshape(prediction.class_probabilities(), (11, -1))
    np.testing.assert_allclose(given, p if outputs == 3 else p[:, 1:], rtol=1e-4)
    np.testing.assert_allclose(prediction.entropy(), entropy(p), rtol=1e-4)
    mode = np.asarray(prediction.mode())
    mode = np.argmax(mode, axis=-1) if name == "OneHotCategorical" else np.ravel(mode)
    np.testing.assert_array_equal(mode, np.argmax(p, axis=-1))

    metric = keras_extras.metrics.ExpectedCalibrationError(num_bins=5)
    metric.update_state(labels, prediction)
    confidence, right = p.max(axis=-1), np.argmax(p, axis=-1) == labels
    index = np.ceil(confidence * 5) - 1
    gaps = [abs(np.sum((confidence - right)[index == b])) for b in range(5)]
    assert float(metric.result()) == pytest.approx(sum(gaps) / 11, rel=1e-4)
