import re
import warnings
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy import stats
from tiers import UNCOMPILED

from keras_extras._core.path_patterns import match_patterns
from keras_extras.optimizers import CMAES, MonteCarloOptimizer, priors, transforms


def minimize(target, start, steps=300, shape=(3,), **kwargs):
    """Searches the minimum of the squared distance to `target`; returns the variable."""
    with keras.name_scope("layer"):
        w = keras.Variable(np.broadcast_to(np.float32(start), shape), name="w")
    kwargs = {"population_size": 16, "learning_rate": 0.05, "sigma": 0.05, "seed": 1, **kwargs}
    optimizer = MonteCarloOptimizer(**kwargs)

    @tf.function
    def step():
        optimizer.minimize(lambda: ops.sum((w - ops.convert_to_tensor(target)) ** 2), [w])

    for _ in range(steps):
        step()
    return w, optimizer


@pytest.mark.parametrize(
    ("prior", "reference"),
    [
        (priors.Normal(1.0, 2.0), stats.norm(1.0, 2.0)),
        (priors.HalfNormal(0.5), stats.halfnorm(scale=0.5)),
        (priors.Uniform(-1.0, 3.0), stats.uniform(-1.0, 4.0)),
    ],
)
def test_priors_draw_from_their_distribution(prior, reference):
    sample = ops.convert_to_numpy(prior.sample((20_000,), seed=4))
    assert stats.kstest(sample, reference.cdf).pvalue > 1e-3
    assert prior.stddev == pytest.approx(reference.std())


def test_the_search_moves_in_units_of_the_prior():
    unit, _ = minimize([1.0, 1.0, 1.0], 0.0, steps=10)
    wide, _ = minimize(
        [100.0, 100.0, 100.0], 0.0, steps=10, priors={"*/w": priors.Normal(0.0, 100.0)}
    )
    np.testing.assert_allclose(wide.numpy(), 100 * unit.numpy(), rtol=1e-3)


def test_the_search_starts_from_the_best_draw_of_the_prior():
    prior = {"*/w": priors.Uniform(0.0, 10.0)}
    one_step = {"steps": 1, "learning_rate": 1e-9, "num_prior_samples": 500, "priors": prior}
    start, _ = minimize([5.0, 5.0, 5.0], 0.0, **one_step)
    assert np.sum((start.numpy() - 5) ** 2) < 2.5
    kept, _ = minimize([5.0, 5.0, 5.0], 5.0, **one_step)
    np.testing.assert_allclose(kept.numpy(), 5.0)


def test_bounds_reflect_and_keep_distances():
    fold = transforms.Bounds(-1.0, 2.0)
    u = np.linspace(-10, 10, 4001, dtype="float32")
    w = ops.convert_to_numpy(fold(ops.convert_to_tensor(u)))
    assert w.min() >= -1
    assert w.max() <= 2
    inside = (u >= -1) & (u <= 2)
    np.testing.assert_allclose(w[inside], u[inside], atol=1e-5)
    np.testing.assert_allclose(np.abs(np.diff(w)).mean(), np.diff(u).mean(), rtol=5e-3)
    np.testing.assert_allclose(fold(ops.convert_to_tensor([2.25, -1.5])), [1.75, -0.5], atol=1e-6)
    np.testing.assert_allclose(transforms.Bounds(lower=1.0)(ops.convert_to_tensor([-1.0])), [3.0])
    np.testing.assert_allclose(transforms.Bounds(upper=1.0)(ops.convert_to_tensor([3.0])), [-1.0])


def test_positive_and_its_inverse():
    positive = transforms.Positive()
    w = ops.convert_to_tensor([1e-3, 0.5, 1.0, 30.0, 200.0])
    np.testing.assert_allclose(positive(positive.inverse(w)), w, rtol=1e-4)
    assert float(positive(ops.convert_to_tensor(-20.0))) > 0


@pytest.mark.parametrize(
    ("transform", "target", "start", "expected", "tolerance"),
    [
        (transforms.Bounds(-1.0, 1.0), [2.0, 0.3, -5.0], 0.0, [1.0, 0.3, -1.0], 0.05),
        (transforms.Positive(), [2.0, 0.3, -5.0], 1.0, [2.0, 0.3, 0.0], 0.05),
        (ops.abs, [2.0, 0.3, -5.0], 1.0, [2.0, 0.3, 0.0], 0.05),
        # The projections of the target on the simplex and on ascending numbers.
        (transforms.Simplex(), [0.6, 0.5, -3.0], 1 / 3, [0.55, 0.45, 0.0], 0.05),
        (transforms.Ordered(), [0.5, -0.1, 2.0], [0.0, 0.1, 0.2], [0.2, 0.2, 2.0], 0.06),
    ],
)
def test_constrained_minimum_is_found(transform, target, start, expected, tolerance):
    w, _ = minimize(target, start, transforms={"*/w": transform})
    np.testing.assert_allclose(w.numpy(), expected, atol=tolerance)


DISCRETE = {
    "integers": (transforms.Integer(), [2.2, -5.4, 0.1], 0.0, [2.0, -5.0, 0.0]),
    "one category": (transforms.OneHot(), [0.1, 0.3, 0.9], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]),
    "choices": (
        transforms.Choice([8.0, 1.0, 2.0, 16.0, 4.0]),
        [17.0, 2.2, -5.0],
        4.0,
        [16.0, 2.0, 1.0],
    ),
}


@pytest.mark.parametrize("kind", DISCRETE)
@pytest.mark.parametrize(
    "make",
    [
        MonteCarloOptimizer,
        partial(MonteCarloOptimizer, keep="best"),
        partial(MonteCarloOptimizer, sigma=0.6, learning_rate=0.05),
        CMAES,
        partial(CMAES, keep="best"),
    ],
    ids=["default", "best", "wide", "CMAES", "best of CMAES"],
)
def test_discrete_values_are_found_at_default_width(kind, make):
    transform, target, start, expected = DISCRETE[kind]
    w = keras.Variable(np.broadcast_to(np.array(start, "float32"), (3,)), name="w")
    optimizer = make(transforms={"*": transform}, seed=1)

    @tf.function
    def step():
        optimizer.minimize(lambda: ops.sum((w - np.array(target, "float32")) ** 2), [w])

    for _ in range(300 // optimizer.generations_per_batch):
        step()
    np.testing.assert_array_equal(w.numpy(), expected)


@pytest.mark.parametrize(
    ("prior", "unit"),
    [
        (priors.HalfNormal(1.0), 1.0),
        (priors.Uniform(-0.1, 0.1), 1.0),
        (priors.Normal(0.0, 100.0), 100.0),
        (priors.Normal(0.0, 1e-3), 1e-3),
    ],
)
def test_priors_of_ordinary_width_leave_the_unit_as_it_is(prior, unit):
    start = np.full(3, unit, "float32")
    w, _ = minimize(start, 0.0, steps=5, priors={"*/w": prior})
    plain, _ = minimize(start / unit, 0.0, steps=5)
    np.testing.assert_allclose(w.numpy(), unit * plain.numpy(), rtol=0.01)


@pytest.mark.parametrize("optimizer_class", [MonteCarloOptimizer, CMAES])
def test_candidates_that_tie_for_long_are_warned_of(optimizer_class):
    def loss(y, y_pred):
        return ops.mean(ops.round(y_pred) - y)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "sigmoid", name="d")])
    model.compile(optimizer_class(sigma=1e-5, seed=1), loss, jit_compile=False)
    x = np.ones((2, 1), "float32")
    with pytest.warns(UserWarning, match=r"same loss for 100 updates.*Received: sigma=1e-05"):
        model.fit(x, 0.25 * x, batch_size=2, epochs=120, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x, np.round(model.predict(x, verbose=0)), epochs=120, verbose=0)


def test_the_ends_of_choices_are_as_likely_as_the_others():
    choice = transforms.Choice([1.0, 2.0, 4.0])
    values = np.array(choice(ops.convert_to_tensor(np.linspace(-3.5, 8.4999, 12_000))))
    assert [int(np.sum(values == value)) for value in (1.0, 2.0, 4.0)] == [4000] * 3


@pytest.mark.parametrize(
    ("transform", "values"),
    [
        (transforms.Simplex(), [[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]]),
        (transforms.Ordered(), [[-1.0, 0.5, 0.6], [2.0, 30.0, 31.0]]),
        (transforms.OneHot(), [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        (transforms.Choice([1, 2, 4]), [[1.0, 4.0, 2.0], [2.0, 2.0, 1.0]]),
    ],
)
def test_inverses_and_configs(transform, values):
    values = ops.convert_to_tensor(values)
    np.testing.assert_allclose(transform(transform.inverse(values)), values, rtol=1e-4)
    serialized = keras.saving.serialize_keras_object(transform)
    again = keras.saving.deserialize_keras_object(serialized)
    np.testing.assert_allclose(again(transform.inverse(values)), values, rtol=1e-4)


@pytest.mark.parametrize("constrained", [True, False])
def test_every_candidate_obeys_transforms_and_keras_constraints(constrained):
    class Strict(keras.layers.Layer):
        """NaN unless all of a is at least 0 and all of b within [0, 1]."""

        def build(self, input_shape):
            constraint = "non_neg" if constrained else None
            self.a = self.add_weight(shape=(4,), name="a", constraint=constraint)
            self.b = self.add_weight(shape=(4,), name="b")

        def call(self, x):
            allowed = ops.all(self.a >= 0) & ops.all(self.b >= 0) & ops.all(self.b <= 1)
            return x * ops.where(allowed, ops.sum(self.a + self.b), float("nan"))

    model = keras.Sequential([keras.Input((1,)), Strict()])
    model.layers[0].set_weights([np.full(4, 0.5)] * 2)
    bounds = {"*/b": transforms.Bounds(0.0, 1.0)} if constrained else None
    optimizer = MonteCarloOptimizer(0.1, 64, sigma=0.4, noise="normal", seed=0, transforms=bounds)
    model.compile(optimizer, "mse", **UNCOMPILED)
    x = np.ones((16, 1), "float32")
    logs = model.fit(x, 9 * x, batch_size=16, epochs=5, verbose=0).history
    assert ("nonfinite_candidates" in logs) == (not constrained)


def test_weights_set_from_outside_are_followed():
    w, optimizer = minimize([0.0, 0.0, 0.0], 1.0, transforms={"*/w": transforms.Positive()})
    w.assign([5.0, 6.0, 7.0])
    optimizer.learning_rate = 1e-9
    optimizer.minimize(lambda: ops.sum(w**2), [w])
    np.testing.assert_allclose(w.numpy(), [5.0, 6.0, 7.0], rtol=1e-4)


def test_the_first_pattern_that_matches_counts():
    def variable(name):
        with keras.name_scope("dense"):
            return keras.Variable(0.0, name=name)

    variables = [variable("kernel"), variable("bias")]
    assert match_patterns("priors", {"*/bias": 1, "*": 2}, variables) == [2, 1]
    assert match_patterns("priors", {"*/bias": 1}, variables) == [None, 1]
    assert match_patterns("priors", {"bias": 1, "dense/k*": 2}, variables) == [2, 1]


@pytest.mark.parametrize("name", ["priors", "transforms"])
def test_a_pattern_without_a_variable_is_an_error(name):
    entry = {"priors": priors.Normal(), "transforms": transforms.Positive()}[name]
    with pytest.raises(ValueError, match=r"'\*/gamma', which matches none of 'layer/w'"):
        minimize([0.0, 0.0, 0.0], 1.0, steps=1, **{name: {"*/gamma": entry}})


def test_a_transform_that_changes_the_shape_is_an_error():
    with pytest.raises(ValueError, match=r"turns shape \(3,\) into \(\)"):
        minimize([0.0, 0.0, 0.0], 1.0, steps=1, transforms={"*/w": ops.sum})


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: priors.Normal(scale=0.0), "`scale` must be greater than 0"),
        (lambda: priors.Uniform(1.0, 1.0), "`high` must be greater than `low`"),
        (lambda: transforms.Bounds(), "`lower` or `upper` must be given"),
        (lambda: transforms.Choice([1.0, 1.0]), "at least two different numbers"),
        (lambda: transforms.Bounds(1.0, 0.0), "`upper` must be greater than `lower`"),
    ],
)
def test_bad_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("values", ["abc", 3, np.array(3.0)], ids=repr)
def test_choices_must_be_a_sequence_of_numbers(values):
    message = f"sequence of numbers.*values={re.escape(repr(values))}"
    with pytest.raises(TypeError, match=message):
        transforms.Choice(values)
