"""LBFGS: the line search, closed forms, the optimum of scikit-learn, and life in `fit`."""

import keras
import numpy as np
import pytest
from contract_support import saved_and_loaded
from keras import ops
from second_order import (
    assert_at_optimum,
    cancer_model,
    cancer_optimum,
    rosenbrock,
)
from tiers import quick

from keras_extras.callbacks import StopWhenConverged
from keras_extras.optimizers import LBFGS, NewtonCG, PartitionedOptimizer
from keras_extras.optimizers.line_search import strong_wolfe


def _regression(optimizer, **arguments):
    x = np.random.default_rng(1).normal(size=(64, 4)).astype("float32")
    y = np.tanh(x[:, :1] - x[:, 1:2] * x[:, 2:3])
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(6, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer, "mse", **arguments)
    return model, x, y


FUNCTIONS = {
    "quadratic": (lambda t: (t - 1.0) ** 2, lambda t: 2.0 * (t - 1.0)),
    "far": (lambda t: (t / 300.0 - 1.0) ** 2, lambda t: 2.0 * (t / 300.0 - 1.0) / 300.0),
    "near": (lambda t: (3e3 * t - 1.0) ** 2, lambda t: 6e3 * (3e3 * t - 1.0)),
    "wavy": (
        lambda t: np.cos(3.0 * t) + 0.2 * (t - 4.0) ** 2,
        lambda t: -3.0 * np.sin(3.0 * t) + 0.4 * (t - 4.0),
    ),
    "poled": (
        lambda t: -np.log(0.7 - t) - 3.0 * t if t < 0.7 else np.inf,
        lambda t: 1.0 / (0.7 - t) - 3.0,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("first_step", [0.01, 1.0, 30.0])
def test_line_search_meets_the_strong_wolfe_conditions(name, first_step):
    function, slope = FUNCTIONS[name]
    constant = lambda value: ops.convert_to_tensor(value, "float64")  # noqa: E731
    found = strong_wolfe(
        lambda x: (constant(function(float(x[0]))), constant([slope(float(x[0]))])),
        constant([0.0]),
        constant([1.0]),
        constant(function(0.0)),
        constant([slope(0.0)]),
        constant(first_step),
        epsilon=2.2e-16,
    )
    step = float(found.step)
    assert slope(0.0) < 0.0 < step
    assert function(step) <= function(0.0) + 1e-4 * step * slope(0.0)
    assert abs(slope(step)) <= 0.9 * abs(slope(0.0))
    assert float(found.value) == function(step)
    assert int(found.evaluations) <= 12


def test_line_search_says_that_there_is_no_lower_loss():
    gradient = ops.convert_to_tensor([-1.0])
    found = strong_wolfe(
        lambda x: (ops.where(x[0] > 0.0, 2.0, 1.0), gradient),
        *(gradient * 0.0, -gradient, ops.convert_to_tensor(1.0), gradient),
        *(ops.convert_to_tensor(1.0), 1e-7),
    )
    assert float(found.step) == 0.0
    assert float(found.value) == 1.0


def test_first_steps_equal_the_dense_bfgs_formula():
    """With H0 = s.y/y.y I and few steps, limited memory is BFGS without limits."""
    matrix = np.diag([1.0, 10.0, 100.0])
    optimizer = LBFGS(iterations_per_batch=1, history_size=3)
    w = keras.Variable([1.0, 1.0, 1.0], dtype="float64")

    def loss():
        return 0.5 * ops.sum(w * ops.matmul(ops.convert_to_tensor(matrix), w[:, None])[:, 0])

    points = [w.numpy()]
    for _ in range(3):
        optimizer.minimize(loss, [w])
        points.append(w.numpy())
    steps, gradients = np.diff(points, axis=0), points @ matrix
    changes = np.diff(gradients, axis=0)
    first, second = list(zip(steps, changes))[:2]
    inverse = np.eye(3) * (second[0] @ second[1]) / (second[1] @ second[1])
    for s, y in (first, second):
        left = np.eye(3) - np.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
    expected = -inverse @ gradients[2]
    cosine = expected @ steps[2] / np.linalg.norm(expected) / np.linalg.norm(steps[2])
    assert cosine == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 2e-3), ("float64", 1e-6)])
def test_rosenbrock(dtype, error):
    w = keras.Variable([-1.2, 1.0], dtype=dtype)
    optimizer = LBFGS(iterations_per_batch=100)
    optimizer.minimize(lambda: rosenbrock(w), [w])
    np.testing.assert_allclose(w.numpy(), [1.0, 1.0], atol=error)
    assert optimizer.evaluations < 60  # SciPy's L-BFGS-B takes about 45


@pytest.mark.both_backends
def test_cancer_reaches_the_optimum_of_scikit_learn():
    optimum = cancer_optimum("lbfgs")
    optimizer = LBFGS()
    model, x, y = cancer_model(optimizer)
    stop = StopWhenConverged()
    history = model.fit(x, y, batch_size=len(x), epochs=20, callbacks=[stop], verbose=0).history
    assert stop.stopped_epoch < 10
    assert_at_optimum(model, optimum)
    assert history["evaluations"][-1] == optimizer.evaluations
    assert history["gradient_norm"][-1] <= optimizer.tolerance


@pytest.mark.parametrize("optimizer_class", [LBFGS, NewtonCG])
def test_a_resumed_run_equals_an_uninterrupted_one(optimizer_class, tmp_path):
    model, x, y = _regression(optimizer_class(iterations_per_batch=3))
    model.fit(x, y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    loaded = saved_and_loaded(model)
    assert loaded.optimizer.evaluations == model.optimizer.evaluations > 0
    for one in (model, loaded):
        one.fit(x, y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    for mine, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert loaded.optimizer.evaluations == model.optimizer.evaluations


@pytest.mark.parametrize(("optimizer_class", "batch_size"), [(LBFGS, 24), (NewtonCG, 48)])
@pytest.mark.parametrize("jit_compile", quick([False, True], False))
def test_fit_with_batches_and_validation(optimizer_class, batch_size, jit_compile):
    model, x, y = _regression(optimizer_class(iterations_per_batch=2), jit_compile=jit_compile)
    history = model.fit(
        *(x, y), batch_size=batch_size, epochs=6, validation_split=0.25, shuffle=False, verbose=0
    ).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert np.isfinite(history["val_loss"]).all()


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(name):
    keras.config.set_dtype_policy(name)
    model, x, y = _regression(LBFGS())
    history = model.fit(x, y, batch_size=64, epochs=4, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_a_part_of_the_weights():
    """Beside Adam, which trains the other layer; logs of a part's search stay out of the count."""
    parts = PartitionedOptimizer({"dense_1/*": LBFGS(), "*": keras.optimizers.Adam(0.01)})
    model, x, y = _regression(parts)
    history = model.fit(x, y, batch_size=64, epochs=4, verbose=0).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert set(history) == {"loss"}


def test_pairs_of_negative_curvature_are_left_out():
    optimizer = LBFGS(history_size=2)
    w = keras.Variable([1.0, 2.0])
    optimizer.build([w])
    memory = [ops.convert_to_tensor(np.arange(4.0, dtype="float32").reshape(2, 2))] * 2
    step, change = ops.convert_to_tensor([1.0, 0.0]), ops.convert_to_tensor([-1.0, 1.0])
    kept = optimizer.remember(step, change, memory)
    np.testing.assert_array_equal(kept[0], memory[0])
    taken = optimizer.remember(step, -change, memory)
    np.testing.assert_array_equal(taken[0], [[2.0, 3.0], [1.0, 0.0]])


@pytest.mark.both_backends
def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_weights():
    model, x, y = _regression(LBFGS())
    before = model.get_weights()
    x[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite where lbfgs started"):
        model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    for mine, theirs in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_step_stays_where_the_loss_is_finite():
    w = keras.Variable(1e-3)
    optimizer = LBFGS(iterations_per_batch=30)
    optimizer.minimize(lambda: w - ops.log(w), [w])
    assert float(w.numpy()) == pytest.approx(1.0, abs=1e-3)


def test_a_learning_rate_is_the_share_of_the_way():
    whole, half = keras.Variable([4.0, -2.0]), keras.Variable([4.0, -2.0])
    for rate, w in ((1.0, whole), (0.5, half)):
        optimizer = LBFGS(rate, iterations_per_batch=5)
        optimizer.minimize(lambda w=w: ops.sum(w**2), [w])
    np.testing.assert_allclose(whole.numpy(), [0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(half.numpy(), [2.0, -1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"history_size": 0}, ValueError, "`history_size` must be at least 1"),
        ({"iterations_per_batch": 1.5}, TypeError, "`iterations_per_batch` must be an integer"),
        ({"tolerance": -1.0}, ValueError, "`tolerance` must be at least 0"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        LBFGS(**arguments)


def test_constraints_and_other_variables_are_errors():
    bound = keras.Variable([1.0])
    bound.constraint = keras.constraints.MaxNorm(1.0)
    with pytest.raises(ValueError, match="cannot keep a constraint"):
        LBFGS().minimize(lambda: ops.sum(bound**2), [bound])
    one, other = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer = LBFGS()
    optimizer.minimize(lambda: ops.sum(one**2), [one])
    with pytest.raises(ValueError, match="was built for other variables"):
        optimizer.minimize(lambda: ops.sum(other**2), [other])


@pytest.mark.both_backends
@pytest.mark.parametrize("make", [LBFGS, NewtonCG])
def test_a_loss_without_a_gradient_is_told(make):
    w = keras.Variable([1.0, -2.0], name="weights")
    with pytest.raises(ValueError, match=r"no gradient.*MonteCarloOptimizer.*'weights'"):
        make().minimize(lambda: ops.sum(ops.cast(w > 0.0, "float32")), [w])
