"""Intervals of MonteCarloOptimizer, against least squares, Wald and counting."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats
from tiers import UNCOMPILED, quick

from keras_extras.optimizers import MonteCarloOptimizer, priors, transforms
from keras_extras.optimizers.parameter import Parameter

ROWS, FEATURES = 200, 5
X = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype("float32")
X[:, 1] += 0.8 * X[:, 0]
WEIGHTS = np.array([1.0, -0.5, 0.0, 2.0, 0.3])
NOISE = np.random.default_rng(1).normal(size=ROWS)
DESIGN = np.c_[X, np.ones(ROWS)].astype("float64")


def trained(y, loss, epochs=100, batch_size=ROWS, **arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(1)])
    arguments = {"population_size": 64, "generations_per_batch": 10, "seed": 1, **arguments}
    model.compile(MonteCarloOptimizer(0.05, **arguments), loss, **UNCOMPILED)
    model.fit(X, y[:, None], batch_size=batch_size, epochs=epochs, verbose=0)
    return model.optimizer


def flat(intervals):
    """Centers and half widths of kernel and bias."""
    kernel, bias = intervals.values()
    parts = (np.append(a, b) for a, b in zip(kernel, bias))
    lower, center, upper = (part.astype("float64") for part in parts)
    np.testing.assert_allclose(upper - center, center - lower, rtol=1e-3)
    return center, (upper - lower) / 2


def regression():
    return (DESIGN @ np.append(WEIGHTS, 0.5) + NOISE).astype("float32")


def least_squares(y, level):
    weights, squares, *_ = np.linalg.lstsq(DESIGN, y.astype("float64"), rcond=None)
    freedom = ROWS - DESIGN.shape[1]
    errors = np.sqrt(squares / freedom * np.diag(np.linalg.inv(DESIGN.T @ DESIGN)))
    return weights, stats.t(freedom).ppf((1 + level) / 2) * errors


@pytest.mark.both_backends
@pytest.mark.parametrize("noise", quick(["orthogonal", "normal"], "orthogonal"))
def test_a_linear_regression_has_the_intervals_of_least_squares(noise):
    y = regression()
    optimizer = trained(y, "mse", noise=noise)
    for level in (0.5, 0.9):
        center, half = flat(optimizer.confidence_intervals(level, "mean_squared_error"))
        weights, expected = least_squares(y, level)
        np.testing.assert_allclose(half, expected, rtol=5e-3)
        np.testing.assert_allclose(center, weights, atol=0.02 * expected.min())


@pytest.mark.slow
def test_batches_and_units_change_little():
    y = regression()
    optimizer = trained(
        y,
        "mse",
        100,
        batch_size=50,
        priors={"*/kernel": priors.Normal(0.0, 3.0)},
        sigma=0.02,
        generations_per_batch=2,
    )
    _, half = flat(optimizer.confidence_intervals(0.9, "mean_squared_error"))
    np.testing.assert_allclose(half, least_squares(y, 0.9)[1], rtol=0.15)


@pytest.mark.slow
def test_a_logistic_regression_has_the_intervals_of_wald():
    from sklearn.linear_model import LogisticRegression

    y = (DESIGN @ np.append(WEIGHTS, 0.5) + 2 * NOISE > 0).astype("float32")
    optimizer = trained(y, keras.losses.BinaryCrossentropy(from_logits=True), epochs=400)
    center, half = flat(optimizer.confidence_intervals(0.9, "negative_log_likelihood"))
    exact = LogisticRegression(C=np.inf, tol=1e-10).fit(X, y)
    weights = np.append(exact.coef_, exact.intercept_)
    chance = 1 / (1 + np.exp(-DESIGN @ weights))
    information = DESIGN.T @ (DESIGN * (chance * (1 - chance))[:, None])
    expected = stats.norm.ppf(0.95) * np.sqrt(np.diag(np.linalg.inv(information)))
    np.testing.assert_allclose(half, expected, rtol=0.01)
    np.testing.assert_allclose(center, weights, atol=0.02 * expected.min())


@pytest.mark.slow
def test_the_diagonal_takes_other_weights_for_known():
    y = regression()
    optimizer = trained(y, "mse", curvature="diagonal")
    _, half = flat(optimizer.confidence_intervals(0.9, "mean_squared_error"))
    _, full = least_squares(y, 0.9)
    inverse = np.diag(np.linalg.inv(DESIGN.T @ DESIGN))
    known = full * np.sqrt(1 / np.diag(DESIGN.T @ DESIGN) / inverse)
    np.testing.assert_allclose(half, known, rtol=5e-3)
    assert np.all(half < full)


def test_without_a_likelihood_the_loss_stands_for_the_noise():
    optimizer = trained(regression(), "mse", 30)
    weak, strong = (
        flat(optimizer.confidence_intervals(0.9, likelihood))[1]
        for likelihood in (None, "mean_squared_error")
    )
    np.testing.assert_array_equal(weak, strong)


def minimized(loss, start, steps=60, **arguments):
    import tensorflow as tf

    w = keras.Variable(start, name="w")
    optimizer = MonteCarloOptimizer(0.02, 16, seed=3, **arguments)
    step = tf.function(lambda: optimizer.minimize(lambda: loss(w), [w]))
    for _ in range(steps):
        step()
    return optimizer.confidence_intervals(training_set_size=50)[w.path]


def test_weights_that_the_loss_does_not_hold_have_no_bounds():
    """The third is free, and of the first two only the sum is held."""
    lower, _, upper = minimized(lambda w: 1.0 + (w[0] + w[1]) ** 2 + w[3] ** 2, [1.0, -1.0, 5.0, 0])
    np.testing.assert_array_equal(lower[:3], [-np.inf] * 3)
    np.testing.assert_array_equal(upper[:3], [np.inf] * 3)
    assert -1 < lower[3] < 0 < upper[3] < 1


def test_intervals_stay_within_transforms():
    lower, center, upper = minimized(
        lambda w: 1.0 + ops.sum((w - 0.5) ** 2),
        [0.05, 0.95, 0.5],
        transforms={"*": transforms.Bounds(0.0, 1.0)},
    )
    assert np.all((lower >= 0) & (lower < center) & (center < upper) & (upper <= 1))


def test_the_diagonal_of_many_weights_takes_no_matrix():
    """Its square would take 800 MB, and its decomposition minutes."""
    import tracemalloc

    optimizer = MonteCarloOptimizer()
    w = keras.Variable(np.zeros(10_000, "float32"))
    optimizer.build([w])
    optimizer._curvature._values.assign(np.arange(1.0, 10_001.0))
    optimizer._curvature._known.assign(np.ones(10_000, bool))
    tracemalloc.start()
    interval = optimizer.confidence_intervals(0.9, "negative_log_likelihood", 100)[w.path]
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()
    expected = stats.norm.ppf(0.95) / np.sqrt(100 * np.arange(1.0, 10_001.0))
    np.testing.assert_allclose(interval.upper, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "kind", "values"), [(100, "full", 5050), (101, "diagonal", 101), (10_001, None, 0)]
)
def test_what_is_measured_depends_on_the_number_of_weights(size, kind, values):
    optimizer = MonteCarloOptimizer()
    optimizer.build([keras.Variable(np.zeros(size, "float32"))])
    measured = sum(v.shape[0] for v in optimizer.variables if v.name == "curvatures")
    assert measured == values
    match = f"{values:,} curvatures are still to be measured" if kind else "no curvature"
    with pytest.raises(ValueError, match=match):
        optimizer.confidence_intervals()


def test_bad_arguments():
    optimizer = trained(regression(), "mse", 30)
    for arguments, error, match in (
        ({"level": 90}, ValueError, "`level` must be between"),
        ({"likelihood": "gaussian"}, ValueError, "`likelihood` must be one of"),
        ({"training_set_size": 6}, ValueError, "more rows than weights"),
        ({"training_set_size": 0.5}, TypeError, "`training_set_size` must be"),
    ):
        with pytest.raises(error, match=match):
            optimizer.confidence_intervals(**arguments)


def test_the_number_of_rows_must_be_known():
    w = keras.Variable([1.0])
    optimizer = MonteCarloOptimizer(seed=0)
    optimizer.minimize(lambda: ops.sum(w**2), [w])
    with pytest.raises(ValueError, match="size of the training set, which is unknown"):
        optimizer.confidence_intervals()


@pytest.mark.parametrize(
    "transform", [transforms.Simplex(), transforms.Ordered(), transforms.OneHot()]
)
def test_entries_that_are_coupled_have_no_interval_of_their_own(transform):
    start = transform(ops.convert_to_tensor([0.1, 0.2, 0.4]))
    target = np.array(start)
    lower, center, upper = minimized(
        lambda w: 1.0 + ops.sum((w - target) ** 2), target, transforms={"*": transform}
    )
    np.testing.assert_array_equal(lower, -np.inf)
    np.testing.assert_array_equal(upper, np.inf)
    assert np.isfinite(center).all()


@pytest.mark.parametrize(
    ("constraint", "ends"),
    [
        (keras.constraints.NonNeg(), [(0.0, 1.1), (0.5, 0.7)]),
        (keras.constraints.MaxNorm(10.0), [(-0.3, 1.1), (0.5, 0.7)]),
        (keras.constraints.UnitNorm(axis=0), [(-np.inf, np.inf)] * 2),
    ],
)
def test_ends_under_a_constraint_of_keras(constraint, ends):
    variable = keras.Variable([0.4, 0.6])
    variable.constraint = constraint
    parameter = Parameter(variable, variable, variable, transform=None, prior=None)
    found = parameter.ends(variable.value, ops.convert_to_tensor([0.7, 0.1]))
    np.testing.assert_allclose(np.transpose(found), ends, atol=1e-6)


def test_a_weight_that_is_not_held_has_no_ends_within_bounds_either():
    bounds = {"*": transforms.Bounds(-3.0, 3.0)}
    lower, _, upper = minimized(lambda w: 1.0 + w[0] ** 2, [0.0, 1.0], transforms=bounds)
    assert -1 < lower[0] < 0 < upper[0] < 1
    assert (lower[1], upper[1]) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("transform", "coordinate", "ends"),
    [
        (transforms.Bounds(0.0), 0.05, (0.0, 0.35)),
        (transforms.Bounds(0.0), -0.05, (0.0, 0.35)),
        (transforms.Bounds(upper=1.0), 0.9, (0.6, 1.0)),
        (transforms.Bounds(0.0, 1.0), 1.9, (0.0, 0.4)),
        (transforms.Choice([1, 2, 4]), 1.6, (2, 4)),
        (transforms.Integer(), 1.6, (1, 2)),
    ],
)
def test_ends_are_clipped_where_values_are_reflected(transform, coordinate, ends):
    found = transform.ends(ops.convert_to_tensor([coordinate]), ops.convert_to_tensor([0.3]))
    np.testing.assert_allclose(np.ravel(found), ends, atol=1e-6)


def test_a_curvature_that_was_not_finite_is_missing_until_it_is_measured_again():
    calls = iter([float("nan")] * 1 + [1.0] * 99)
    w = keras.Variable([0.5, 0.5], name="w")
    optimizer = MonteCarloOptimizer(1e-9, sigma_decay_power=0.0, curvature="diagonal", seed=1)

    def step():
        factor = next(calls)
        optimizer.minimize(lambda: factor * ops.sum(3.0 * w**2), [w])

    step()
    assert optimizer._curvature.missing == 2
    step()
    assert optimizer._curvature.missing == 0
    np.testing.assert_allclose(optimizer._curvature._values.numpy(), 6.0, rtol=1e-2)
