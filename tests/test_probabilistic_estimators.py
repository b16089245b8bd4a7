"""The regressor and the classifier, as scikit-learn and as a statistician see them."""

import pickle

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from tiers import quick

from keras_extras.pipelines import ProbabilisticClassifier, ProbabilisticRegressor
from keras_extras.pipelines.calibration import (
    fit_linear,
    noise_factor,
    share_of_network,
    temperature,
)
from keras_extras.pipelines.probabilistic_networks import METHODS, trainable_network
from keras_extras.pipelines.weight_draws import draw_dropout

pytestmark = pytest.mark.both_backends(cases=1)

_GENERATOR = np.random.default_rng(0)
_X = 100.0 + 7.0 * _GENERATOR.normal(size=(120, 2))
_NOISE = 2.0
_Y = 3.0 * (_X[:, 0] - 100.0) + 500.0 + _NOISE * _GENERATOR.normal(size=120)
_LABELS = np.where(_X[:, 0] + _GENERATOR.normal(size=120) > 100.0, "signal", "background")

_QUICK = {"epochs": 60, "num_members": 2, "num_samples": 40, "num_burnin_steps": 50}


@parametrize_with_checks(
    [
        ProbabilisticRegressor(hidden_units=(16,), epochs=15, learning_rate=0.1, num_members=2),
        ProbabilisticClassifier(hidden_units=(16,), epochs=15, learning_rate=0.1, num_members=2),
    ],
    # They ask for equality to 1e-7: of float32 products it depends on the processor.
    expected_failed_checks=lambda estimator: dict.fromkeys(
        ["check_methods_sample_order_invariance", "check_methods_subset_invariance"],
        "single precision",
    ),
)
def test_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module", params=quick(METHODS, "ensemble", "laplace"))
def regressor(request):
    return ProbabilisticRegressor(request.param, noise="constant", random_state=0, **_QUICK).fit(
        _X, _Y
    )


@pytest.fixture(scope="module", params=quick(METHODS, "ensemble", "laplace"))
def classifier(request):
    return ProbabilisticClassifier(request.param, random_state=0, **_QUICK).fit(_X, _LABELS)


@pytest.mark.filterwarnings("ignore:.*transitions diverged", "ignore:The energy varies")
class TestEveryMethodOfRegression:
    def test_mean_and_standard_deviation_are_in_the_units_of_the_targets(self, regressor):
        assert regressor.score(_X, _Y) > 0.97

    def test_a_row_does_not_depend_on_the_others(self, regressor):
        chosen = np.random.default_rng(1).permutation(len(_X))[:30]
        for actual, expected in zip(
            regressor.predict(_X[chosen], return_std=True), regressor.predict(_X, return_std=True)
        ):
            np.testing.assert_allclose(actual, expected[chosen], rtol=1e-4)
        mean, stddev = regressor.predict(_X, return_std=True)
        assert mean.shape == stddev.shape == (120,)
        assert 0.5 * _NOISE < np.median(stddev) < 4.0 * _NOISE

    def test_intervals_cover_the_targets(self, regressor):
        lower, upper = regressor.predict_interval(_X, level=0.9)
        assert 0.8 < np.mean((lower <= _Y) & (upper >= _Y)) <= 1.0
        narrow, wide = (
            np.mean(np.subtract(*regressor.predict_interval(_X, level)[::-1]))
            for level in (0.5, 0.95)
        )
        assert narrow < wide

    def test_the_weights_are_less_certain_far_from_the_data(self, regressor):
        near, far = (
            float(np.mean(regressor.predict_distribution(x).epistemic_variance()))
            for x in (_X, _X + 70.0)
        )
        assert far > 4.0 * near > 0.0

    def test_clones_and_pickles_predict_the_same(self, regressor):
        expected = regressor.predict(_X)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(regressor)).predict(_X), expected)
        np.testing.assert_allclose(clone(regressor).fit(_X, _Y).predict(_X), expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.*transitions diverged", "ignore:The energy varies")
class TestEveryMethodOfClassification:
    def test_classes_and_probabilities(self, classifier):
        assert list(classifier.classes_) == ["background", "signal"]
        assert classifier.score(_X, _LABELS) > 0.85
        p = classifier.predict_proba(_X)
        assert p.shape == (120, 2)
        np.testing.assert_allclose(p.sum(axis=1), 1.0)
        assert np.mean(np.log(p[np.arange(120), (_LABELS == "signal") * 1])) > -0.45

    def test_what_the_weights_leave_open(self, classifier):
        information = np.asarray(classifier.predict_distribution(_X).mutual_information())
        assert information.shape == (120,)
        assert information.min() > -1e-5
        assert information.max() > 1e-4

    def test_clones_and_pickles_predict_the_same(self, classifier):
        expected = classifier.predict_proba(_X)
        unpickled = pickle.loads(pickle.dumps(classifier))
        np.testing.assert_array_equal(unpickled.predict_proba(_X), expected)


def test_several_targets():
    y = np.stack([_Y, -_Y], axis=1)
    regressor = ProbabilisticRegressor(random_state=0, **_QUICK).fit(_X, y)
    mean, stddev = regressor.predict(_X, return_std=True)
    assert mean.shape == stddev.shape == (120, 2)
    lower, upper = regressor.predict_interval(_X)
    assert lower.shape == upper.shape == (120, 2)
    assert regressor.score(_X, y) > 0.95


def test_noise_that_depends_on_the_inputs_is_seen():
    x = np.linspace(-1.0, 1.0, 400)[:, None]
    y = np.where(x[:, 0] > 0.0, 1.0, 0.05) * np.random.default_rng(0).normal(size=400)
    _, stddev = (
        ProbabilisticRegressor(random_state=0, epochs=60).fit(x, y).predict(x, return_std=True)
    )
    assert np.median(stddev[200:]) > 5.0 * np.median(stddev[:200])
    _, constant = (
        ProbabilisticRegressor(noise="constant", random_state=0, epochs=60)
        .fit(x, y)
        .predict(x, return_std=True)
    )
    assert np.median(constant[200:]) < 2.0 * np.median(constant[:200])


def test_searches_and_pipelines():
    regressor = ProbabilisticRegressor(random_state=0, **_QUICK)
    assert cross_val_score(regressor, _X, _Y, cv=3).min() > 0.9
    curved = np.abs(_X[:, 0] - 100.0)
    search = GridSearchCV(regressor, {"epochs": [2, 40]}, cv=2).fit(_X, curved)
    assert search.best_params_ == {"epochs": 40}
    assert make_pipeline(StandardScaler(), regressor).fit(_X, _Y).score(_X, _Y) > 0.9


def test_the_random_state_alone_decides():
    predictions = []
    for global_seed in (1, 2):
        keras.utils.set_random_seed(global_seed)
        regressor = ProbabilisticRegressor(random_state=0, **_QUICK)
        predictions.append(regressor.fit(_X, _Y).predict(_X))
    np.testing.assert_array_equal(*predictions)


def test_equal_networks_are_compiled_once():
    trainable_network.cache_clear()
    for seed, rows in ((0, 100), (1, 110)):
        regressor = ProbabilisticRegressor(random_state=seed, **_QUICK)
        regressor.fit(_X[:rows], _Y[:rows])
    assert trainable_network.cache_info().misses == 1


def test_estimators_with_one_network_keep_their_own_weights():
    one = ProbabilisticRegressor("laplace", random_state=0, **_QUICK).fit(_X, _Y)
    before = one.predict(_X)
    ProbabilisticRegressor("laplace", random_state=0, **_QUICK).fit(_X, -_Y)
    np.testing.assert_array_equal(one.predict(_X), before)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "bagging"}, ValueError, "`method` must be one of"),
        ({"noise": "heteroscedastic"}, ValueError, "`noise` must be one of"),
        ({"hidden_units": 50}, TypeError, "`hidden_units` must be a sequence"),
        ({"hidden_units": (0,)}, ValueError, "`hidden_units` must be at least 1"),
        ({"epochs": 0}, ValueError, "`epochs` must be at least 1"),
        ({"num_members": 0}, ValueError, "`num_members` must be at least 1"),
        ({"learning_rate": 0.0}, ValueError, "`learning_rate` must be greater than 0"),
        ({"prior_stddev": -1.0}, ValueError, "`prior_stddev` must be greater than 0"),
        ({"dropout_rate": 1.0}, ValueError, "`dropout_rate` must be"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        ProbabilisticRegressor(**arguments).fit(_X, _Y)


def test_intervals_of_bad_levels():
    regressor = ProbabilisticRegressor(random_state=0, epochs=1).fit(_X, _Y)
    with pytest.raises(ValueError, match=r"`level` must lie in \(0, 1\)"):
        regressor.predict_interval(_X, level=1.0)


def test_one_class_is_not_enough():
    with pytest.raises(ValueError, match="at least two classes"):
        ProbabilisticClassifier().fit(_X, np.zeros(120, int))


def test_targets_far_from_zero_keep_their_digits():
    y = 1e6 + 0.1 * (_X[:, 0] - 100.0) / 7.0
    regressor = ProbabilisticRegressor(random_state=0, **_QUICK).fit(_X, y)
    assert regressor.score(_X, y) > 0.9
    mean, stddev = regressor.predict(_X, return_std=True)
    lower, upper = regressor.predict_interval(_X)
    assert np.all((lower < mean) & (mean < upper))
    assert np.all((stddev > 0) & (stddev < 1.0))


_SHORT = {"hidden_units": (8,), "epochs": 3, "num_samples": 20, "random_state": 0}


@pytest.mark.parametrize("method", ["flipout", "local_reparameterization", "mc_dropout"])
def test_a_prediction_of_a_row_depends_on_that_row_alone(method):
    regressor = ProbabilisticRegressor(method, **_SHORT).fit(_X, _Y)
    classifier = ProbabilisticClassifier(method, **_SHORT).fit(_X, _LABELS)
    chosen = np.random.default_rng(0).permutation(120)[:50]
    for predict in (regressor.predict, classifier.predict_proba):
        np.testing.assert_allclose(predict(_X)[chosen], predict(_X[chosen]), rtol=1e-5)
    for whole, part in zip(
        regressor.predict_interval(_X), regressor.predict_interval(_X[chosen]), strict=True
    ):
        np.testing.assert_allclose(whole[chosen], part, rtol=1e-4)


def test_draws_of_random_layers_have_the_moments_of_their_posteriors():
    regressor = ProbabilisticRegressor("flipout", **{**_SHORT, "num_samples": 4000}).fit(_X, _Y)
    trainable = trainable_network(regressor._spec(2, 1))
    drawn = regressor._draws(trainable, np.random.default_rng(1))[0]
    for kernels, loc, raw in zip(np.split(drawn, 5), *regressor.weights_[:2], strict=True):
        scale = np.log1p(np.exp(raw))
        np.testing.assert_allclose(kernels.mean(0), loc, atol=5 * scale.max() / 800**0.5)
        np.testing.assert_allclose(kernels.std(0), scale, rtol=0.13)


def test_draws_of_dropout_leave_units_out():
    values = [np.ones((2, 50), "float32"), np.ones(50), np.ones((50, 1), "float32"), np.ones(1)]
    drawn = draw_dropout(values, 0.2, 400, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn[0], 1.0)
    assert set(np.unique(drawn[2])) == {np.float32(0.0), np.float32(1.25)}
    assert drawn[2].mean() == pytest.approx(1.0, abs=0.02)


def test_weights_count_as_repetitions():
    """Exactly, whatever the order; of class weights, too."""
    weights = np.random.default_rng(0).integers(0, 3, 120)
    rows = np.random.default_rng(1).permutation(np.repeat(np.arange(120), weights))
    for method in ("ensemble", "laplace"):
        regressor = ProbabilisticRegressor(method, **_SHORT)
        weighted = clone(regressor).fit(_X, _Y, sample_weight=weights).predict(_X)
        repeated = clone(regressor).fit(_X[rows], _Y[rows]).predict(_X)
        np.testing.assert_allclose(weighted, repeated, rtol=1e-6)
    with pytest.raises(ValueError, match="whole numbers with method='laplace'"):
        regressor.fit(_X, _Y, sample_weight=weights + 0.5)
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        regressor.fit(_X, _Y, sample_weight=-np.ones(120))
    classifier = ProbabilisticClassifier(class_weight={"signal": 2, "background": 1}, **_SHORT)
    twice = np.where(_LABELS == "signal", 2.0, 1.0)
    np.testing.assert_allclose(
        classifier.fit(_X, _LABELS).predict_proba(_X),
        ProbabilisticClassifier(**_SHORT).fit(_X, _LABELS, sample_weight=twice).predict_proba(_X),
        rtol=1e-6,
    )


def test_weighted_means_are_found():
    """Three quarters of the weight at 1, a quarter at 0, and no input to tell them apart."""
    x, labels = np.zeros((100, 1)), np.arange(100) % 2
    weights = np.where(labels == 1, 3.0, 1.0)
    # Rows that are alike are one row, so that they need something that differs.
    x = x + 1e-3 * np.arange(100)[:, None]
    regressor = ProbabilisticRegressor(num_members=2, epochs=20, random_state=0)
    predicted = regressor.fit(x, labels.astype(float), sample_weight=weights).predict(x)
    assert np.mean(predicted) == pytest.approx(0.75, abs=0.08)


def test_intervals_of_several_levels_and_in_pipelines():
    pipeline = make_pipeline(StandardScaler(), ProbabilisticRegressor(**_SHORT)).fit(_X, _Y)
    regressor, x = pipeline[-1], pipeline[:-1].transform(_X)
    lower, upper = regressor.predict_interval(x, level=[0.5, 0.9])
    assert lower.shape == upper.shape == (2, 120)
    for number, level in enumerate((0.5, 0.9)):
        for ends, alone in zip((lower, upper), regressor.predict_interval(x, level)):
            np.testing.assert_array_equal(ends[number], alone)
    mean, stddev, *ends = pipeline.predict(_X, return_std=True, return_interval=True, level=0.9)
    np.testing.assert_array_equal(ends, [lower[1], upper[1]])
    np.testing.assert_array_equal([mean, stddev], regressor.predict(x, return_std=True))
    for level in ([], [0.5, 1.0], [[0.5]]):
        with pytest.raises(ValueError, match="`level` must"):
            regressor.predict_interval(x, level)


def test_the_linear_fit_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    x, y, weights = rng.normal(size=(60, 4)), rng.normal(size=(60, 2)), rng.uniform(1, 3, size=60)
    y += x @ rng.normal(size=(4, 2))
    fit = fit_linear(x, y, weights)
    expected = RidgeCV(np.logspace(-3, 5, 33)).fit(x, y)
    np.testing.assert_allclose(fit_linear(x, y, np.ones(60))(x), expected.predict(x), rtol=1e-6)
    rows = np.repeat(np.arange(60), 2)
    np.testing.assert_allclose(
        fit(x), fit_linear(x[rows], y[rows], weights[rows] / 2)(x), rtol=0.05, atol=0.05
    )


def test_calibration_finds_what_was_put_in():
    rng = np.random.default_rng(0)
    weights = np.ones(4000)
    residuals = rng.normal(size=(4000, 2)) * [2.0, 0.5]
    loc, scale = np.zeros((4000, 3, 2)), np.ones((4000, 3, 2))
    np.testing.assert_allclose(noise_factor(residuals, loc, scale, weights), [2.0, 0.5], rtol=0.04)
    # Of a skewed mixture it is the interval that counts, not the standard deviation.
    loc, scale = np.tile([[0.0], [0.0], [9.0]], (4000, 1, 1)), np.full((4000, 3, 1), 0.1)
    drawn = loc[:, 0] + 9.0 * (rng.random((4000, 1)) < 1 / 3) + 0.1 * rng.normal(size=(4000, 1))
    np.testing.assert_allclose(noise_factor(3.0 * (drawn - 3.0), loc, scale, weights), 3.0, 0.04)
    y = rng.normal(size=(4000, 1))
    linear, network = y + rng.normal(size=y.shape), y + 0.5 * rng.normal(size=y.shape)
    assert share_of_network(linear, network, y, weights)[0] == pytest.approx(0.8, abs=0.03)
    logits = 2.0 * rng.normal(size=(4000, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in p])
    assert temperature(3.0 * logits[None], np.eye(3)[labels], weights) == pytest.approx(3, rel=0.08)
    # A draw without a chance plays no part.
    draws = np.stack([3.0 * logits, rng.normal(size=logits.shape)])
    chances = np.tile([1.0, 0.0], (4000, 1))
    of_one = temperature(draws, np.eye(3)[labels], weights, chances)
    assert of_one == temperature(draws[:1], np.eye(3)[labels], weights)
