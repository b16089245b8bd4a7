"""Conformal prediction: the guarantee, closed forms, MAPIE's numbers, all kinds of predictors."""

import keras
import numpy as np
import pytest
from scipy import stats

from keras_extras import inference
from keras_extras.inference import ConformalPredictor
from keras_extras.inference.conformal_predictor import rank
from keras_extras.pipelines import CrossConformalPredictor

both_backends = pytest.mark.both_backends
RNG = np.random.default_rng(0)
N, REPEATS = 39, 400


def _standard_error(level, rows=REPEATS * 20):
    """Of the mean coverage of `REPEATS` held-out sets of `N` rows, each with 20 new ones."""
    of_sets = level * (1 - level) / (N + 2)
    return np.sqrt(of_sets / REPEATS + level * (1 - level) / rows)


@both_backends
@pytest.mark.parametrize(
    ("level", "num_rows", "expected"),
    [(0.9, 9, 9), (0.9, 10, 10), (0.9, 99, 90), (0.55, 99, 55), (0.5, 1, 1), (0.95, 19, 19)],
)
def test_the_rank_of_the_score(level, num_rows, expected):
    assert rank(level, num_rows) == expected


@both_backends
@pytest.mark.parametrize(("level", "needed"), [(0.9, 9), (0.95, 19), (0.5, 1), (0.99, 99)])
def test_too_few_rows_are_an_error_that_says_how_many_are_needed(level, needed):
    rank(level, needed)
    with pytest.raises(ValueError, match=f"needs at least {needed} held-out rows"):
        rank(level, needed - 1)


@both_backends
def test_points_by_hand():
    x = np.arange(9.0)
    y = np.array([0.0, 2.0, 1.0, 6.0, 0.0, 5.0, 9.0, 7.0, 9.0])
    residuals = np.sort(np.abs(y - x))
    conformal = ConformalPredictor(lambda x: x, x, y)
    for level, place in ((0.5, 5), (0.9, 9), (0.7, 7)):
        lower, upper = conformal.interval(np.array([100.0, 200.0]), level)
        np.testing.assert_allclose(upper - [100, 200], residuals[place - 1])
        np.testing.assert_allclose([100, 200] - lower, residuals[place - 1])
    several = conformal.interval(x, [0.5, 0.9])
    assert several[0].shape == (2, 9)
    np.testing.assert_array_equal(several[1][0], conformal.interval(x, 0.5)[1])
    scaled = ConformalPredictor(lambda x: x, x, y, scale=lambda x: 1.0 + x)
    lower, upper = scaled.interval(np.array([3.0]), 0.9)
    np.testing.assert_allclose(upper - lower, 2 * 4.0 * np.max(np.abs(y - x) / (1 + x)))


@both_backends
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_the_coverage_of_points_is_that_of_theory(level):
    """Without ties it is `ceil((n + 1) level) / (n + 1)`; z within 4 standard errors."""
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(REPEATS):
        x = rng.normal(size=N + 20)
        y = 0.5 * x + rng.standard_t(2, size=N + 20)
        conformal = ConformalPredictor(lambda x: x, x[:N], y[:N])
        lower, upper = conformal.interval(x[N:], level)
        covered.append(np.mean((lower <= y[N:]) & (y[N:] <= upper)))
    expected = np.ceil((N + 1) * level) / (N + 1)
    z = (np.mean(covered) - expected) / _standard_error(level)
    assert abs(z) < 4, f"{np.mean(covered)} instead of {expected}"


@both_backends
def test_values_with_ties_are_covered():
    """Whole numbers around a fixed prediction that is none: rounding must not shut them out."""
    rng, level = np.random.default_rng(2), 0.8
    covered = []
    for _ in range(REPEATS):
        y = rng.poisson(1.0, size=N + 20).astype("float64")
        conformal = ConformalPredictor(lambda x: np.full(len(x), 0.1), y[:N], y[:N])
        lower, upper = conformal.interval(y[N:], level)
        covered.append(np.mean((lower <= y[N:]) & (y[N:] <= upper)))
    assert np.mean(covered) > level - 4 * _standard_error(level)


def _class_data(rng, rows, classes=4):
    logits = 1.5 * rng.normal(size=(rows, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return p, np.array([rng.choice(classes, p=one) for one in p])


@both_backends
@pytest.mark.parametrize("randomized", [False, True])
def test_the_coverage_of_sets(randomized):
    """Of predictions that are too sure. With a draw it is that of theory, else at least that."""
    rng, level = np.random.default_rng(3), 0.8
    covered, sizes = [], []
    for _ in range(REPEATS):
        p, labels = _class_data(rng, N + 20)
        p = p**3 / np.sum(p**3, axis=1, keepdims=True)
        conformal = ConformalPredictor(
            lambda p: p, p[:N], labels[:N], randomized=randomized, seed=rng.integers(2**31)
        )
        sets = conformal.prediction_set(p[N:], level)
        covered.append(np.mean(sets[np.arange(20), labels[N:]]))
        sizes.append(sets.sum(axis=1))
        assert randomized or sets[np.arange(20), np.argmax(p[N:], axis=1)].all()
    z = (np.mean(covered) - np.ceil((N + 1) * level) / (N + 1)) / _standard_error(level)
    assert z > -4
    assert abs(z) < 4 or not randomized
    assert 1.0 < np.mean(sizes) < 3.5


@both_backends
def test_sets_by_hand():
    p = np.array([[0.6, 0.3, 0.1]] * 9)
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2])
    conformal = ConformalPredictor(lambda x: p[: len(x)], np.zeros(9), labels)
    for level, expected in ((0.5, [1, 0, 0]), (0.8, [1, 1, 0]), (0.9, [1, 1, 1])):
        np.testing.assert_array_equal(conformal.prediction_set([0], level)[0], expected)
    assert conformal.prediction_set([0, 1], [0.5, 0.9]).shape == (2, 2, 3)


@both_backends
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_keras_classifiers_in_every_form(classes, from_logits):
    units = 1 if classes == 2 else classes
    activation = None if from_logits else ("sigmoid" if units == 1 else "softmax")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units, activation)])
    x, labels = RNG.normal(size=(50, 2)).astype("float32"), RNG.integers(classes, size=50)
    sets = [
        ConformalPredictor(model, x, y, from_logits=from_logits).prediction_set(x, 0.7)
        for y in (labels, labels[:, None], np.eye(classes)[labels])
    ]
    for one in sets:
        np.testing.assert_array_equal(one, sets[0])
    assert sets[0].shape == (50, classes)
    assert sets[0][np.arange(50), labels].mean() >= 0.7


@both_backends
def test_keras_regressors_and_columns():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    x = RNG.normal(size=(60, 2)).astype("float32")
    y = x[:, 0] + RNG.normal(size=60)
    of_rows = ConformalPredictor(model, x, y).interval(x[:5])
    of_columns = ConformalPredictor(model, x, y[:, None]).interval(x[:5])
    assert of_rows[0].shape == (5,)
    assert of_columns[0].shape == (5, 1)
    np.testing.assert_array_equal(of_rows[1], of_columns[1][:, 0])
    # Each column has its own score.
    both = np.c_[y, 100.0 * y]
    lower, upper = ConformalPredictor(lambda x: 0.0 * both[: len(x)], x, both).interval(x[:1])
    np.testing.assert_allclose((upper - lower)[0, 1], 100.0 * (upper - lower)[0, 0])


@both_backends
def test_a_model_that_is_trained_further_is_conformalized_again():
    x, y = RNG.normal(size=(20, 2)), RNG.normal(size=20)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    conformal = ConformalPredictor(model, x, y)
    conformal.interval(x)
    model.set_weights([np.full((2, 1), 10.0), np.full(1, 5.0)])
    again = ConformalPredictor(model, x, y)
    np.testing.assert_array_equal(conformal.interval(x), again.interval(x))


@both_backends
def test_cross_conformal_intervals_are_those_of_the_formula():
    """CV+ of a linear model, from all ends of all rows."""
    x = RNG.normal(size=(30, 1))
    y = x[:, 0] + RNG.normal(size=30)
    new = RNG.normal(size=(7, 1))

    def train(x, y):
        slope = np.sum(x[:, 0] * y) / np.sum(x**2)
        return lambda rows: slope * rows[:, 0]

    conformal = CrossConformalPredictor(train, x, y, num_folds=5, seed=3)
    folds = np.random.default_rng(3).permutation(30) % 5
    lows, highs = [], []
    for fold in range(5):
        predict = train(x[folds != fold], y[folds != fold])
        for residual in np.abs(y - predict(x))[folds == fold]:
            lows.append(predict(new) - residual)
            highs.append(predict(new) + residual)
    k = int(np.floor(0.2 * 31))
    lower, upper = conformal.interval(new, 0.8)
    np.testing.assert_allclose(lower, np.sort(lows, axis=0)[k - 1], atol=1e-9)
    np.testing.assert_allclose(upper, np.sort(highs, axis=0)[-k], atol=1e-9)
    assert np.all(conformal.interval(new, [0.5, 0.8])[1][1] == upper)
    with pytest.raises(ValueError, match="needs at least 99 held-out rows"):
        conformal.interval(new, 0.99)


@both_backends
def test_bad_input_is_refused():
    x, y = np.zeros((20, 1)), np.arange(20.0)
    mean = lambda x: x[:, 0]  # noqa: E731
    with pytest.raises(TypeError, match="`predictor` must be a Keras model"):
        ConformalPredictor(3.0, x, y)
    with pytest.raises(ValueError, match="as many rows"):
        ConformalPredictor(mean, x, y[:3])
    with pytest.raises(TypeError, match="`x` must be an array with one row"):
        ConformalPredictor(mean, x.tolist(), y)
    with pytest.raises(ValueError, match="`y` must be finite"):
        ConformalPredictor(mean, x, np.where(y == 3, np.nan, y)).interval(x)
    with pytest.raises(ValueError, match=r"1 numbers in each row.*prediction_set"):
        ConformalPredictor(mean, x, np.zeros((20, 2))).interval(x)
    with pytest.raises(ValueError, match="Two predictions of the same row differ"):
        ConformalPredictor(lambda x: RNG.normal(size=len(x)), x, y)
    with pytest.raises(ValueError, match="positive, finite numbers"):
        ConformalPredictor(mean, x, y, scale=mean).interval(x)
    with pytest.raises(TypeError, match="`scale` must be a function"):
        ConformalPredictor(mean, x, y, scale=2.0)
    with pytest.raises(ValueError, match=r"`level` must lie in \(0, 1\)"):
        ConformalPredictor(mean, x, y).interval(x, 1.0)
    with pytest.raises(ValueError, match="set `from_logits=True`"):
        ConformalPredictor(lambda x: x + 3.0, x, y > 5).prediction_set(x)
    with pytest.raises(ValueError, match="labels from 0 to 1"):
        ConformalPredictor(lambda x: x + 0.5, x, y).prediction_set(x)
    with pytest.raises(TypeError, match="`estimator` must be an estimator"):
        CrossConformalPredictor(3.0, x, y)
    with pytest.raises(ValueError, match="at least one for each fold"):
        CrossConformalPredictor(lambda x, y: mean, x, y, num_folds=21)


# What needs distributions.


def _normal_of(scale_of):
    import tensorflow_probability as tfp

    def predict(x):
        return tfp.distributions.Normal(x[:, 0], scale_of(x).astype("float32"))

    return predict


@pytest.mark.parametrize("factor", [0.05, 1.0, 20.0])
def test_distributions_are_covered_however_sure_they_are(factor):
    """Also where most targets lie beyond all quantiles: the intervals are those of the truth."""
    rng = np.random.default_rng(4)
    x = rng.uniform(0.5, 2.0, size=(4000, 1)).astype("float32")
    y = x[:, 0] + x[:, 0] * rng.normal(size=4000)
    conformal = ConformalPredictor(_normal_of(lambda x: factor * x[:, 0]), x[:2000], y[:2000])
    for level in (0.5, 0.9, 0.99):
        lower, upper = conformal.interval(x[2000:], level)
        share = np.mean((lower <= y[2000:]) & (y[2000:] <= upper))
        assert abs(share - level) < 4 * np.sqrt(2 * level * (1 - level) / 2000)
        expected = stats.norm.ppf(0.5 + level / 2) * x[2000:, 0]
        np.testing.assert_allclose(upper - x[2000:, 0], expected, rtol=0.15)
        np.testing.assert_allclose(x[2000:, 0] - lower, expected, rtol=0.15)


def test_residuals_of_the_mean_of_distributions():
    x = RNG.uniform(0.5, 2.0, size=(50, 1)).astype("float32")
    y = x[:, 0] + RNG.normal(size=50)
    predict = _normal_of(lambda x: x[:, 0])
    of_mean = ConformalPredictor(predict, x, y, score="residual").interval(x)
    of_points = ConformalPredictor(lambda x: x[:, 0], x, y).interval(x)
    np.testing.assert_allclose(of_mean, of_points, rtol=1e-6)
    scaled = ConformalPredictor(predict, x, y, score="residual", scale=lambda x: x[:, 0])
    assert np.std(np.subtract(*scaled.interval(x)) / x[:, 0]) < 1e-5
    with pytest.raises(ValueError, match="Set `score='residual'`"):
        ConformalPredictor(predict, x, y, scale=lambda x: x[:, 0]).interval(x)
    with pytest.raises(ValueError, match="`score` must be one of"):
        ConformalPredictor(predict, x, y, score="width")


def test_calibrated_distributions_keep_their_quantiles():
    import tensorflow_probability as tfp

    rng = np.random.default_rng(5)
    x = rng.uniform(1.0, 3.0, size=(20_000, 1)).astype("float32")
    y = rng.gamma(x[:, 0])
    conformal = ConformalPredictor(lambda x: tfp.distributions.Gamma(x[:, 0], 1.0), x, y)
    lower, upper = conformal.interval(x[:50], 0.8)
    np.testing.assert_allclose(lower, stats.gamma(x[:50, 0]).ppf(0.1), rtol=0.04)
    np.testing.assert_allclose(upper, stats.gamma(x[:50, 0]).ppf(0.9), rtol=0.03)


@pytest.mark.parametrize("rate", [0.3, 2.0, 20.0])
def test_counts_of_one_rate_are_covered(rate):
    """Scores have ties, and each end is a value with a probability."""
    import tensorflow_probability as tfp

    rng, level = np.random.default_rng(6), 0.8
    y = rng.poisson(rate, size=(2, 2000)).astype("float32")
    predict = lambda x: tfp.distributions.Poisson(np.full(len(x), rate, "float32"))  # noqa: E731
    lower, upper = ConformalPredictor(predict, y[0], y[0]).interval([0], level)
    covered = np.mean((lower <= y[1]) & (y[1] <= upper))
    assert covered > level - 4 * np.sqrt(2 * level * (1 - level) / 2000)
    # Without either end it would be too little: no values more than are needed.
    inside = np.mean((lower < y[1]) & (y[1] < upper))
    assert inside < level


def _bayesian_model():
    from keras_extras import layers

    return keras.Sequential(
        [keras.Input((2,)), layers.DenseFlipout(4), layers.IndependentNormal(2)]
    )


def test_predictions_of_models_are_conformalized():
    from keras_extras import predict_distribution

    model = _bayesian_model()
    x = RNG.normal(size=(60, 2)).astype("float32")
    y = x[:, :2] + RNG.normal(size=(60, 2))
    prediction = predict_distribution(model, x[40:], num_samples=10)
    lower, upper = prediction.conformalize(x[:40], y[:40]).interval(0.8)
    assert lower.shape == (20, 2)
    again = ConformalPredictor(model, x[:40], y[:40], num_samples=10).interval(x[40:], 0.8)
    assert np.all(np.isfinite(again) & np.isfinite([lower, upper]))
    held_out = predict_distribution(model, x[:40], num_samples=10)
    lower, upper = held_out.conformalize(x[:40], y[:40]).interval([0.5, 0.8])
    inside = np.mean((lower <= y[:40]) & (y[:40] <= upper), axis=1)
    np.testing.assert_allclose(inside, np.ceil(41 * np.array([[0.5], [0.8]])).repeat(2, 1) / 40)
    model.layers[0].set_weights([w + 1.0 for w in model.layers[0].get_weights()])
    with pytest.raises(ValueError, match="no longer predicts what it did"):
        prediction.conformalize(x[:40], y[:40])
    with pytest.raises(ValueError, match="`conformalize` is for predictions of"):
        inference.PosteriorPredictive(
            prediction.mixture_distribution, prediction.components_distribution
        ).conformalize(x, y)


def test_predictions_of_posteriors_and_laplace_are_conformalized():
    from keras_extras import layers

    x = RNG.normal(size=(60, 1)).astype("float32")
    y = x + 0.5 * RNG.normal(size=(60, 1))
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(2), layers.IndependentNormal(1)]
    )
    samples = [RNG.normal(size=(2, 20, *v.shape)) for v in model.trainable_variables]
    for predictor in (
        inference.Posterior(model, samples),
        inference.LaplaceApproximation(model, x, y),
    ):
        prediction = predictor.predict_distribution(x, num_samples=15)
        for lower, upper in (
            prediction.conformalize(x, y).interval(0.8),
            ConformalPredictor(predictor, x, y, num_samples=15).interval(x, 0.8),
        ):
            assert np.mean((lower <= y) & (y <= upper)) == pytest.approx(49 / 60)


def test_predictions_of_classes_are_conformalized():
    from keras_extras import layers, predict_distribution

    model = keras.Sequential([keras.Input((2,)), layers.DenseFlipout(3), layers.Categorical(3)])
    x, labels = RNG.normal(size=(50, 2)).astype("float32"), RNG.integers(3, size=50)
    prediction = predict_distribution(model, x, num_samples=10)
    sets = prediction.conformalize(x, labels).prediction_set(0.7)
    assert sets.shape == (50, 3)
    assert sets[np.arange(50), labels].mean() >= 36 / 50


def test_estimators():
    from keras_extras.pipelines import ProbabilisticClassifier, ProbabilisticRegressor

    quick = {"num_members": 2, "epochs": 5, "hidden_units": (8,), "random_state": 0}
    x = RNG.normal(size=(90, 2))
    y = 500.0 + x[:, 0] + RNG.normal(size=90)
    regressor = ProbabilisticRegressor(**quick).fit(x[:40], y[:40])
    lower, upper = regressor.conformalize(x[40:], y[40:]).interval(x[40:], 0.8)
    assert np.mean((lower <= y[40:]) & (y[40:] <= upper)) == pytest.approx(41 / 50)
    prediction = regressor.predict_distribution(x[40:])
    np.testing.assert_array_equal(prediction.conformalize(x[40:], y[40:]).interval(0.8)[0], lower)
    crossed = CrossConformalPredictor(ProbabilisticRegressor(**quick), x, y, num_folds=2)
    lower, upper = crossed.interval(x, 0.8)
    assert 0.7 < np.mean((lower <= y) & (y <= upper)) < 0.95

    labels = np.where(x[:, 0] > 0.0, "right", "left")
    classifier = ProbabilisticClassifier(**quick).fit(x[:40], labels[:40])
    columns = np.searchsorted(["left", "right"], labels)
    for conformal in (
        classifier.conformalize(x[40:], labels[40:]),
        CrossConformalPredictor(ProbabilisticClassifier(**quick), x, labels, num_folds=2),
    ):
        sets = conformal.prediction_set(x, 0.8)
        assert sets[np.arange(90), columns].mean() > 0.7
    np.testing.assert_array_equal(
        classifier.predict_distribution(x).conformalize(x[40:], labels[40:]).prediction_set(0.8),
        classifier.conformalize(x[40:], labels[40:]).prediction_set(x, 0.8),
    )
    with pytest.raises(ValueError, match=r"labels of the predictor, .*'left'"):
        classifier.conformalize(x[40:], columns[40:]).prediction_set(x)


# MAPIE, the reference.


def test_split_intervals_are_those_of_mapie():
    mapie = pytest.importorskip("mapie.regression", reason="MAPIE is not installed")
    linear = pytest.importorskip("sklearn.linear_model").LinearRegression()
    x = RNG.normal(size=(120, 2))
    y = x[:, 0] + RNG.normal(size=120)
    linear.fit(x[:40], y[:40])
    theirs = mapie.SplitConformalRegressor(linear, confidence_level=[0.8, 0.9], prefit=True)
    theirs.conformalize(x[40:100], y[40:100])
    _, ends = theirs.predict_interval(x[100:])
    ours = ConformalPredictor(linear, x[40:100], y[40:100]).interval(x[100:], [0.8, 0.9])
    np.testing.assert_allclose(np.stack(ours, axis=1), np.transpose(ends, (2, 1, 0)), rtol=1e-9)


def test_sets_are_those_of_mapie():
    mapie = pytest.importorskip("mapie.classification", reason="MAPIE is not installed")
    linear = pytest.importorskip("sklearn.linear_model").LogisticRegression()
    x = RNG.normal(size=(300, 2))
    labels = np.argmax(x @ RNG.normal(size=(2, 4)) + RNG.gumbel(size=(300, 4)), axis=1)
    linear.fit(x[:100], labels[:100])
    theirs = mapie.SplitConformalClassifier(
        linear, confidence_level=0.8, prefit=True, conformity_score="aps", random_state=0
    )
    theirs.conformalize(x[100:200], labels[100:200])
    _, sets = theirs.predict_set(x[200:])
    ours = ConformalPredictor(linear, x[100:200], labels[100:200], randomized=True)
    mine = ours.prediction_set(x[200:], 0.8)
    rows = np.arange(100)
    covered = mine[rows, labels[200:]].mean(), sets[rows, labels[200:], 0].mean()
    assert min(covered) > 0.7, covered
    assert mine.sum() < 1.05 * sets.sum()


@pytest.mark.parametrize("kind", ["split", "cross", "classes"])
def test_estimators_work_inside_of_mapie(kind):
    pytest.importorskip("mapie", reason="MAPIE is not installed")
    from mapie.classification import SplitConformalClassifier
    from mapie.regression import CrossConformalRegressor, SplitConformalRegressor

    from keras_extras.pipelines import ProbabilisticClassifier, ProbabilisticRegressor

    quick = {"num_members": 2, "epochs": 3, "hidden_units": (4,), "random_state": 0}
    x = RNG.normal(size=(60, 2))
    y = x[:, 0] + RNG.normal(size=60)
    if kind == "classes":
        theirs = SplitConformalClassifier(
            ProbabilisticClassifier(**quick), confidence_level=0.8, prefit=False
        )
        theirs.fit(x[:30], y[:30] > 0).conformalize(x[30:], y[30:] > 0)
        assert theirs.predict_set(x)[1].shape == (60, 2, 1)
        return
    if kind == "split":
        theirs = SplitConformalRegressor(
            ProbabilisticRegressor(**quick), confidence_level=0.8, prefit=False
        )
        theirs.fit(x[:30], y[:30]).conformalize(x[30:], y[30:])
    else:
        theirs = CrossConformalRegressor(
            ProbabilisticRegressor(**quick), confidence_level=0.8, cv=2
        )
        theirs.fit_conformalize(x, y)
    _, ends = theirs.predict_interval(x)
    assert 0.7 < np.mean((ends[:, 0, 0] <= y) & (y <= ends[:, 1, 0])) < 0.97
