"""Networks that each leave out a fold, and calibration by the rows that they left out."""

import numpy as np
import pytest

from keras_extras.pipelines import ProbabilisticClassifier, ProbabilisticRegressor
from keras_extras.pipelines.calibration import (
    factor_of_average,
    leave_one_out,
    mean_of_draws,
    own_fold,
)
from keras_extras.pipelines.probabilistic_estimator import _folds
from keras_extras.pipelines.probabilistic_networks import Rows, train, trainable_network

pytestmark = pytest.mark.both_backends(cases=0)

_RNG = np.random.default_rng(0)
_X = _RNG.normal(size=(43, 2))
_Y = _X[:, 0] + 0.3 * _RNG.normal(size=43)
_SHORT = {"hidden_units": (8,), "epochs": 2, "num_samples": 20, "random_state": 0}


def test_folds_are_alike():
    y = np.eye(3)[np.repeat([0, 1, 2], [30, 10, 5])]
    folds = _folds(y, True, np.random.default_rng(0))
    counts = np.array([np.bincount(folds[labels == 1], minlength=5) for labels in y.T])
    assert np.ptp(counts, axis=1).max() <= 1
    assert set(_folds(y[:19], False, np.random.default_rng(0))) == {-1}
    many = _folds(np.zeros((10_001, 1)), False, np.random.default_rng(0))
    assert np.bincount(many + 1).tolist() == [8001, 2000]


@pytest.mark.parametrize("method", ["ensemble", "local_reparameterization"])
def test_networks_do_not_see_the_rows_of_their_fold(method):
    regressor = ProbabilisticRegressor(method, num_members=2, **_SHORT).fit(_X, _Y)
    spec = regressor._spec(2, 1)
    trainable = trainable_network(spec)
    per_fold = spec.num_members // 5
    folds = np.arange(43) % 5
    is_held_out = folds[:, None] == np.repeat(np.arange(5), per_fold)
    found = []
    for change in (0.0, 5.0):
        y = (_Y + change * (folds == 3))[:, None].astype("float32")
        rows = Rows(_X.astype("float32"), y, np.ones(43, "float32"))
        found.append(train(trainable, rows, is_held_out, 1, 16, 0.01, 0, 0))
    for one, other in zip(*found):
        differs = np.any(one != other, axis=tuple(range(1, one.ndim))).reshape(5, per_fold)
        assert not differs[3].any()
    assert differs[:3].all()
    assert differs[4:].all()


def test_a_network_without_a_fold_is_that_of_the_other_rows_alone():
    """The loss, its penalty and the size of the data are those of the rows that count."""
    regressor = ProbabilisticRegressor(num_members=1, **_SHORT).fit(_X, _Y)
    members = trainable_network(regressor._spec(2, 1)).members
    weights = [np.asarray(stack) for stack in members.stacks]
    x, y = _X.astype("float32"), _Y[:, None].astype("float32")
    is_used = np.arange(43) % 5 != 0
    losses = []
    for chosen in (np.arange(43), np.flatnonzero(is_used)):
        used = np.repeat(is_used[chosen][:, None], 5, axis=1).astype("float32")
        members.num_rows.assign(used.sum(axis=0))
        predicted = members(x[chosen], training=True)
        losses.append(
            float(members.compute_loss(x[chosen], y[chosen], predicted, used / used.mean(axis=0)))
        )
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(weights, members.stacks))


def test_each_row_is_judged_by_the_networks_without_it():
    folds = np.array([0, 0, 1, 2, 2])
    values = [np.full((4, 5, 1), number) for number in range(3)]
    np.testing.assert_array_equal(own_fold(values, folds), np.tile(folds[:, None], (4, 1, 1)))


def test_the_factor_of_an_average():
    """Networks that err by themselves: their mean errs less, and their mixture is wide."""
    rng = np.random.default_rng(0)
    count, folds = 20_000, np.repeat(np.arange(5), 4000)
    common, own = 0.9, 0.4
    means = own * rng.normal(size=(5, count, 1))
    variance = np.full((count, 1), common**2 + own**2)
    one = np.ones(1)
    factor = factor_of_average(means, variance, one, one, folds, np.ones(count))
    # What the mean errs by, and the spread of draws about it: one fold's and between folds.
    expected = (common**2 + own**2 / 5) / (common**2 + own**2 * (1 + 4 / 5))
    np.testing.assert_allclose(factor**2, expected, rtol=0.02)
    alike = np.zeros((5, count, 1))
    np.testing.assert_array_equal(
        factor_of_average(alike, variance, one, one, folds, np.ones(count)), 1.0
    )


def test_leaving_a_row_out_of_draws():
    """The mean of normal numbers: its posterior without a row has a closed form."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(40, 1))
    times = np.where(np.arange(40) < 5, 3, 1)  # Rows that are given three times.
    total = times.sum()
    posterior_mean = np.sum(times[:, None] * y) / total
    draws = posterior_mean + rng.normal(size=20_000) / np.sqrt(total)
    surprise = 0.5 * np.square(y - draws)
    is_unseen = np.zeros((40, 20_000), bool)
    chances = leave_one_out(surprise, is_unseen, times)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    without = (total * posterior_mean - times[:, None] * y) / (total - times)[:, None]
    loc = np.tile(draws[None, :, None], (40, 1, 1))
    np.testing.assert_allclose(mean_of_draws(loc, chances), without, atol=0.01)
    # Draws without the row keep their share.
    is_unseen[:, :4000] = True
    chances = leave_one_out(surprise, is_unseen, times)
    np.testing.assert_allclose(chances[:, :4000], 1 / 20_000)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    chances = leave_one_out(surprise, np.ones_like(is_unseen), times)
    np.testing.assert_allclose(chances, 1 / 20_000)


@pytest.mark.parametrize("method", ["ensemble", "mc_dropout", "laplace"])
def test_all_folds_take_part_in_predictions(method):
    regressor = ProbabilisticRegressor(method, num_members=2, **_SHORT).fit(_X, _Y)

    def of_folds():
        return regressor._of_folds(np.asarray(regressor._parameters(regressor._standardized(_X))))

    parts = of_folds()
    assert not np.allclose(parts[0].mean(0), parts[1].mean(0))
    # The draws of each fold are those of its weights.
    regressor.weights_ = [
        np.concatenate([part + (fold == 3) for fold, part in enumerate(regressor._of_folds(v))])
        for v in regressor.weights_
    ]
    same = [np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(parts, of_folds())]
    assert same == [True, True, True, False, True]


def test_few_rows_are_not_calibrated():
    regressor = ProbabilisticRegressor(**_SHORT).fit(_X[:15], _Y[:15])
    np.testing.assert_array_equal([regressor._share, regressor._factor], 1.0)
    labels = np.arange(15) % 2
    assert ProbabilisticClassifier(**_SHORT).fit(_X[:15], labels)._temperature == 1.0


def test_repeated_rows_are_in_one_fold():
    """Else the networks of a fold had seen the rows that they are calibrated with."""
    regressor = ProbabilisticRegressor("laplace", **_SHORT)
    rows = Rows(_X, _Y[:, None], np.full(43, 2.0))
    repeated, folds = regressor._repeated(rows, np.arange(43) % 5)
    assert len(repeated.x) == 86
    for row in range(43):
        assert set(folds[np.all(repeated.x == _X[row], axis=1)]) == {row % 5}
