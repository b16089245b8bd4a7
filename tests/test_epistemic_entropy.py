"""How much of the uncertainty about a class is about the weights, for every kind of classifier."""

import keras
import numpy as np
import pytest
import scipy.special
from keras import ops
from probability import tfd

from keras_extras import inference, layers, predict_distribution
from keras_extras.pipelines import ProbabilisticClassifier

pytestmark = pytest.mark.both_backends(cases=0)


_X = np.random.default_rng(0).normal(size=(11, 3)).astype("float32")
_LABELS = np.random.default_rng(1).integers(0, 3, size=11)
_ONE_HOT = np.eye(3, dtype="float32")[_LABELS]


def network(*stack):
    keras.utils.set_random_seed(2)
    return keras.Sequential([keras.Input((3,)), *stack])


def entropies(p):
    """Of probabilities of shape `(n, draws, classes)`: predictive and aleatoric."""
    return (
        scipy.special.entr(p.mean(axis=1)).sum(axis=-1),
        scipy.special.entr(p).sum(axis=-1).mean(axis=1),
    )


def check(prediction, p):
    """Compares with the definition in double precision."""
    predictive, aleatoric = entropies(np.asarray(p, "float64"))
    shape = prediction.predictive_entropy().shape
    expected = (predictive, aleatoric, predictive - aleatoric)
    names = ("predictive_entropy", "aleatoric_entropy", "epistemic_entropy")
    for name, value in zip(names, expected, strict=True):
        actual = getattr(prediction, name)()
        assert actual.shape == shape
        np.testing.assert_allclose(np.ravel(actual), value, atol=2e-6, err_msg=name)
    epistemic = np.asarray(prediction.epistemic_entropy())
    assert (epistemic >= 0.0).all()
    np.testing.assert_array_equal(prediction.mutual_information(), epistemic)


def binary(p):
    p = np.asarray(p, "float64")
    return np.stack([1.0 - p, p], axis=-1)


def draws_of(prediction):
    return np.asarray(prediction.components_distribution.mean())


@pytest.mark.parametrize(
    "stack",
    [
        lambda: [keras.layers.Dense(3, "softmax")],
        lambda: [keras.layers.Dense(3), keras.layers.Softmax()],
        lambda: [keras.Sequential([keras.layers.Dense(3, "softmax")])],
        lambda: [keras.layers.Dense(3), layers.OneHotCategorical(3)],
    ],
    ids=["softmax", "Softmax", "nested", "OneHotCategorical"],
)
@pytest.mark.parametrize(
    "hidden",
    [lambda: layers.MCDropout(0.4), lambda: layers.DenseFlipout(5)],
    ids=["MCDropout", "DenseFlipout"],
)
def test_classes(hidden, stack):
    prediction = predict_distribution(network(hidden(), *stack()), _X, 30, seed=1)
    check(prediction, draws_of(prediction))
    assert np.all(np.asarray(prediction.epistemic_entropy()) > 0.0)
    np.testing.assert_allclose(prediction.class_probabilities(), draws_of(prediction).mean(1), 1e-5)


@pytest.mark.parametrize("units", [1, 2])
@pytest.mark.parametrize(
    "stack",
    [
        lambda units: [keras.layers.Dense(units, "sigmoid")],
        lambda units: [keras.layers.Dense(units), keras.layers.Activation("sigmoid")],
        lambda units: [keras.layers.Dense(units), layers.IndependentBernoulli(units)],
    ],
    ids=["sigmoid", "Activation", "IndependentBernoulli"],
)
def test_labels_of_two_values(stack, units):
    model = network(layers.MCDropout(0.4), *stack(units))
    prediction = predict_distribution(model, _X, 30, seed=1)
    assert prediction.epistemic_entropy().shape == (11, units)
    p = np.moveaxis(draws_of(prediction), 1, 2).reshape(11 * units, 30)
    check(prediction, binary(p))


def test_integer_labels():
    model = network(layers.MCDropout(0.4), keras.layers.Dense(3), layers.Categorical(3))
    prediction = predict_distribution(model, _X, 30, seed=1)
    check(prediction, prediction.components_distribution.distribution.probs_parameter())


def test_a_functional_model():
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(1, "sigmoid")(layers.MCDropout(0.4)(inputs))
    prediction = predict_distribution(keras.Model(inputs, outputs), _X, 30, seed=1)
    check(prediction, binary(draws_of(prediction)[..., 0]))
    doubled = predict_distribution(keras.Model(inputs, 2.0 * outputs), _X, 30, seed=1)
    with pytest.raises(TypeError, match="needs a model of classes"):
        doubled.epistemic_entropy()


def test_an_ensemble_that_disagrees_is_all_epistemic_and_one_that_agrees_is_not():
    def constant(*logits):
        model = network(keras.layers.Dense(len(logits), "softmax"))
        model.layers[0].set_weights([np.zeros((3, len(logits))), np.array(logits)])
        return model

    sure = [constant(60.0, -60.0), constant(-60.0, 60.0)]
    disagreeing = predict_distribution(sure, _X)
    np.testing.assert_allclose(disagreeing.epistemic_entropy(), np.log(2.0), rtol=1e-5)
    np.testing.assert_allclose(disagreeing.aleatoric_entropy(), 0.0, atol=1e-6)
    agreeing = predict_distribution([constant(0.0, 0.0), constant(0.0, 0.0)], _X)
    np.testing.assert_allclose(agreeing.epistemic_entropy(), 0.0, atol=1e-6)
    np.testing.assert_allclose(agreeing.aleatoric_entropy(), np.log(2.0), rtol=1e-5)


def test_outputs_in_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    model = network(layers.MCDropout(0.4), keras.layers.Dense(3, "softmax"))
    prediction = predict_distribution(model, _X, 30, seed=1)
    epistemic = np.asarray(prediction.epistemic_entropy())
    assert epistemic.dtype == "float32"
    predictive, aleatoric = entropies(draws_of(prediction).astype("float64"))
    np.testing.assert_allclose(epistemic, predictive - aleatoric, atol=2e-3)


@pytest.mark.parametrize("head", [keras.layers.Identity, lambda: layers.IndependentNormal(1)])
@pytest.mark.parametrize("name", ["epistemic_entropy", "aleatoric_entropy", "predictive_entropy"])
def test_regressions_have_none(head, name):
    model = network(layers.MCDropout(0.4), keras.layers.Dense(2), head())
    with pytest.raises(TypeError, match=f"`{name}` needs a model of classes"):
        getattr(predict_distribution(model, _X, 5), name)()


def test_logits_need_a_likelihood():
    model = network(layers.MCDropout(0.4), keras.layers.Dense(3))
    with pytest.raises(TypeError, match="`likelihood` of `predict_distribution`"):
        predict_distribution(model, _X, 5).epistemic_entropy()

    def likelihood(logits):
        return tfd.Categorical(logits=logits)

    prediction = predict_distribution(model, _X, 30, seed=1, likelihood=likelihood)
    check(prediction, prediction.components_distribution.distribution.probs_parameter())


def test_posteriors_and_approximations():
    model = network(keras.layers.Dense(3), layers.OneHotCategorical(3))
    generator = np.random.default_rng(1)
    samples = [generator.normal(size=(1, 20, *weight.shape)) for weight in model.weights[:2]]
    for posterior in (
        inference.LaplaceApproximation(model, _X, _ONE_HOT),
        inference.Posterior(model, samples),
    ):
        prediction = predict_distribution(posterior, _X, 20, seed=1)
        check(prediction, draws_of(prediction))


def test_an_estimator():
    classifier = ProbabilisticClassifier(epochs=3, num_members=2, random_state=0)
    prediction = classifier.fit(_X, _LABELS).predict_distribution(_X)
    check(prediction, draws_of(prediction))


def test_a_random_feature_gaussian_process_draws_its_logits():
    process = layers.RandomFeatureGaussianProcess(3, 40, seed=1)
    model = network(process, keras.layers.Softmax())
    with pytest.raises(ValueError, match="no covariance yet"):
        predict_distribution(model, _X)
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    model.fit(_X, _LABELS, epochs=5, verbose=0)
    logits = predict_distribution(network(process), _X, 4000, seed=1)
    mean, variance = process.mean_and_variance(_X)
    error = np.sqrt(np.asarray(variance)[:, None] / 4000)
    z = np.abs(logits.mean() - mean) / error
    assert np.max(z) < 4.5, f"the largest |z| is {np.max(z)}"
    expected = np.tile(np.asarray(variance)[:, None], 3)
    np.testing.assert_allclose(logits.epistemic_variance(), expected, rtol=0.12)

    prediction = predict_distribution(model, _X, 4000, seed=1)
    check(prediction, ops.softmax(draws_of(logits)))
    np.testing.assert_allclose(
        prediction.class_probabilities(), model.predict(_X, verbose=0), atol=0.04
    )
    far = predict_distribution(model, np.full((1, 3), 30.0, "float32"), seed=1)
    assert far.epistemic_entropy()[0] > np.max(prediction.epistemic_entropy())


def test_a_gaussian_process_behind_other_inference_is_refused():
    process = layers.RandomFeatureGaussianProcess(3, 10, seed=1)
    model = network(process, layers.OneHotCategorical(3))
    model.compile("adam", lambda y, rv_y: -rv_y.log_prob(y))
    model.fit(_X, _ONE_HOT, verbose=0)
    with pytest.raises(ValueError, match="is random"):
        inference.LaplaceApproximation(model, _X, _ONE_HOT)
    samples = [np.zeros((1, 5, 10, 3), "float32")]
    posterior = inference.Posterior(model, samples)
    with pytest.raises(ValueError, match="has a posterior itself"):
        posterior.predict_distribution(_X)
