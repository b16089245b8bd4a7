"""Minima as differentiable values, against closed forms and central differences."""

import keras
import numpy as np
import pytest
from compiled_gradients import gradients, tensor
from keras import ops
from precision import ON_JAX, needs_tensorflow

from keras_extras._core.compiled import compiled
from keras_extras._core.differentiation import value_and_gradients
from keras_extras._core.double_precision import double_precision
from keras_extras.autodiff import minimize

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(30, 4))
Y = X @ np.array([1.0, -2.0, 0.5, 0.0]) + GENERATOR.normal(size=30)
LABELS = (Y > 0.0).astype("float64")
FACTORS = np.arange(1.0, 5.0)


@pytest.fixture(autouse=True)
def double():
    with double_precision():
        yield


def central_differences(function, *values, step=1e-5):
    function = compiled(function)
    values = [np.array(value, "float64") for value in values]
    slopes = [np.zeros_like(value) for value in values]
    for value, slope in zip(values, slopes):
        for index in np.ndindex(value.shape):
            ends = []
            for sign in (1, -1):
                moved = value.copy()
                moved[index] += sign * step
                given = [moved if other is value else other for other in values]
                ends.append(float(function(*map(tensor, given))))
            slope[index] = (ends[0] - ends[1]) / (2 * step)
    return slopes


def assert_close(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def ridge(penalty, x, y, **options):
    def loss(w):
        return ops.sum((ops.matmul(x, w) - y) ** 2) + penalty * ops.sum(w**2)

    return minimize(loss, np.zeros(4), **options)


def closed_form(penalty, x, y):
    matrix = ops.matmul(ops.transpose(x), x) + penalty * ops.eye(4, dtype="float64")
    return ops.matmul(ops.inv(matrix), ops.matmul(ops.transpose(x), y))


@pytest.mark.both_backends
@pytest.mark.parametrize("method", ["newton", "lbfgs", "gradient_descent"])
def test_ridge_regression_equals_the_closed_form(method):
    options = {"method": method}
    if method == "gradient_descent":
        options["learning_rate"] = 0.01
    values = 0.7, X, Y
    found = gradients(lambda *v: ops.sum(ridge(*v, **options).minimizer * FACTORS), *values)
    expected = gradients(lambda *v: ops.sum(closed_form(*v) * FACTORS), *values)
    assert_close(found, expected, 1e-8)
    result = ridge(*map(tensor, values), **options)
    np.testing.assert_allclose(result.minimizer, closed_form(*values), rtol=1e-10)
    assert bool(result.converged)
    assert float(result.gradient_norm) < 1e-10


@pytest.mark.both_backends
def test_gradients_in_eager_code():
    values = list(map(tensor, (0.7, X, Y)))
    _, found = value_and_gradients(lambda v: ops.sum(ridge(*v).minimizer * FACTORS), values)
    assert_close(found, gradients(lambda *v: ops.sum(closed_form(*v) * FACTORS), *values), 1e-8)


@pytest.mark.both_backends
def test_gradients_of_gradients():
    def curvature(of, penalty, y):
        def slope(penalty):
            _, (slope,) = value_and_gradients(
                lambda v: ops.sum(of(v[0], X, y) * FACTORS), [penalty]
            )
            return slope

        return value_and_gradients(lambda v: slope(v[0]), [penalty])[1][0]

    values = tensor(0.7), tensor(Y)
    found = compiled(lambda *v: curvature(lambda *a: ridge(*a).minimizer, *v))(*values)
    expected = curvature(closed_form, *values)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.both_backends
def test_derivatives_of_the_value():
    """To the second order: at a minimum the value changes by `df/dt`."""

    def closed_value(penalty, y):
        w = closed_form(penalty, X, y)
        return ops.sum((ops.matmul(X, w) - y) ** 2) + penalty * ops.sum(w**2)

    def derivatives(value, penalty, y):
        def slope(values):
            _, (by_penalty, by_y) = value_and_gradients(lambda v: value(*v), values)
            return by_penalty + ops.sum(by_y)

        slope, curvatures = value_and_gradients(slope, [penalty, y])
        return [slope, *curvatures]

    values = tensor(0.7), tensor(Y)
    found = compiled(lambda *v: derivatives(lambda p, y: ridge(p, X, y).value, *v))(*values)
    assert_close(found, derivatives(closed_value, *values), 1e-8)


@pytest.mark.both_backends
def test_logistic_regression_against_differences():
    def held_out_loss(penalty, scale):
        def loss(w):
            logits = ops.matmul(X[:20] * scale, w)
            return ops.sum(ops.softplus(logits) - LABELS[:20] * logits) + penalty * ops.sum(w**2)

        logits = ops.matmul(X[20:], minimize(loss, np.zeros(4)).minimizer)
        return ops.sum(ops.softplus(logits) - LABELS[20:] * logits)

    values = 0.3, np.ones(4)
    found = gradients(held_out_loss, *values)
    assert_close(found, central_differences(held_out_loss, *values), 1e-5)


@pytest.mark.both_backends
def test_network_in_a_structure_against_differences():
    start = {
        "hidden": (GENERATOR.normal(size=(4, 3)), np.zeros(3)),
        "out": GENERATOR.normal(size=3),
    }

    def held_out_loss(penalty, targets):
        def outputs(weights, x):
            kernel, bias = weights["hidden"]
            return ops.matmul(ops.tanh(ops.matmul(x, kernel) + bias), weights["out"])

        def loss(weights):
            squares = sum(ops.sum(part**2) for part in keras.tree.flatten(weights))
            return ops.sum((outputs(weights, X[:20]) - targets) ** 2) + penalty * squares

        found = minimize(loss, start).minimizer
        assert found["hidden"][0].shape == (4, 3)
        return ops.sum((outputs(found, X[20:]) - Y[20:]) ** 2)

    values = 0.5, Y[:20]
    assert_close(
        gradients(held_out_loss, *values), central_differences(held_out_loss, *values), 1e-5
    )


@pytest.mark.slow
@pytest.mark.both_backends
def test_two_levels_against_differences():
    """min over x of f(x) + min over y of g(x, y)."""

    def nested(rate, shift):
        def outer(x):
            def inner(y):
                distances = ops.square(y - x + 0.1 * x * ops.square(x))
                return ops.sum(distances) + rate * ops.sum(ops.square(ops.square(y)))

            found = minimize(inner, np.zeros(2))
            distances = ops.square(x - shift)
            return ops.sum(distances) + found.value + 0.1 * ops.sum(found.minimizer * x)

        found = minimize(outer, np.zeros(2))
        return ops.sum(found.minimizer * ops.square(found.minimizer + 1.0))

    values = 0.8, np.array([0.5, -1.0])
    assert_close(gradients(nested, *values), central_differences(nested, *values), 1e-5)


@pytest.mark.both_backends
def test_weights_of_a_model():
    keras.config.set_dtype_policy("float64")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
    before = model.get_weights()

    def weights(penalty, y):
        def loss(model, x):
            errors = model(x)[:, 0] - y
            return ops.sum(errors**2) + penalty * ops.sum(model.trainable_variables[0] ** 2)

        (kernel,) = minimize(loss, model, args=(ops.convert_to_tensor(X),)).minimizer
        return ops.sum(kernel[:, 0] * FACTORS)

    values = 0.7, Y
    expected = gradients(lambda p, y: ops.sum(closed_form(p, X, y) * FACTORS), *values)
    assert_close(gradients(weights, *values), expected, 1e-8)
    np.testing.assert_array_equal(model.get_weights(), before)


@pytest.mark.both_backends
def test_many_variables_by_conjugate_gradients():
    curvatures = np.linspace(1.0, 50.0, 150)
    shift = np.linspace(-1.0, 1.0, 150)

    def norm(scale, shift):
        found = minimize(
            lambda x: ops.sum(scale * curvatures * (x - shift) ** 2 + x**2), np.zeros(150)
        )
        return ops.sum(found.minimizer**2)

    def expected(scale, shift):
        return ops.sum((scale * curvatures * shift / (scale * curvatures + 1.0)) ** 2)

    values = 0.5, shift
    assert_close(gradients(norm, *values), gradients(expected, *values), 1e-8)


@pytest.mark.both_backends
def test_unrolled_steps_have_the_derivatives_of_these_steps():
    def after(rate, target):
        found = minimize(
            lambda x: ops.sum((x - target) ** 2),
            np.zeros(2),
            method="gradient_descent",
            gradients="unrolled",
            learning_rate=rate,
            max_iterations=3,
        )
        assert found.minimizer.shape == (2,)
        return ops.sum(found.minimizer)

    found = gradients(after, 0.1, np.ones(2))
    assert_close(found, [2 * 6 * 0.8**2, np.full(2, 1 - 0.8**3)], 1e-12)


@needs_tensorflow
def test_variables():
    import tensorflow as tf

    penalty = keras.Variable(0.7, dtype="float64")
    outer = tf.Variable(Y)
    expected = gradients(lambda p, y: ops.sum(closed_form(p, X, y)), 0.7, Y)
    with tf.GradientTape(persistent=True) as tape:
        total = ops.sum(ridge(penalty, X, outer).minimizer)
    assert_close(tape.gradient(total, [penalty.value, outer]), expected, 1e-8)
    penalty.assign(1.0)
    with pytest.raises(ValueError, match="must keep their values"):
        tape.gradient(total, outer)


@needs_tensorflow
def test_a_loop_of_minima():
    """Python's closures see the last value of a loop when the gradient is taken."""
    import tensorflow as tf

    y = tf.constant(Y)
    with tf.GradientTape() as tape:
        tape.watch(y)
        total = 0.0
        for penalty in (0.1, 1.0):

            def loss(w):
                errors = tf.linalg.matvec(X, w) - y
                return tf.reduce_sum(errors**2) + penalty * tf.reduce_sum(w**2)  # noqa: B023

            total += tf.reduce_sum(minimize(loss, np.zeros(4)).minimizer)

    def expected(y):
        return sum(ops.sum(closed_form(penalty, X, y)) for penalty in (0.1, 1.0))

    assert_close([tape.gradient(total, y)], gradients(expected, Y), 1e-8)


@pytest.mark.both_backends
@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: ops.sum(ops.round(x)), ValueError, "must be differentiable"),
        (lambda x: x, ValueError, r"must return a scalar tensor.*shape \(2,\)"),
        (lambda x: 1.0, ValueError, "must return a scalar tensor.*1.0"),
        (lambda x: ops.sum(ops.log(x)), ValueError, "must be finite"),
        (lambda x: ops.sum(ops.exp(x)), ValueError, "has not converged.*gradient_norm=.*allowed="),
        (lambda x: x[0] ** 2 - x[1] ** 2, ValueError, "saddle or maximum"),
        (3, TypeError, "`function` must be callable"),
    ],
)
def test_errors_of_functions(function, error, message):
    with pytest.raises(error, match=message):
        minimize(function, np.zeros(2), max_iterations=5)


@pytest.mark.both_backends
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"start": np.zeros(2, "int32")}, TypeError, "must hold floating-point numbers"),
        ({"start": ()}, ValueError, "must hold tensors"),
        ({"method": "adam"}, ValueError, "`method` must be one of"),
        ({"gradients": "unrolled"}, ValueError, "needs method='gradient_descent'"),
        ({"learning_rate": 0.1}, ValueError, "`learning_rate` must be given for"),
        ({"tolerance": 0.0}, ValueError, "`tolerance` must be greater than 0"),
        ({"args": 3}, TypeError, "`args` must be a tuple"),
    ],
)
def test_errors_of_arguments(options, error, message):
    with pytest.raises(error, match=message):
        minimize(**{"function": lambda x: ops.sum(x**2), "start": np.zeros(2), **options})


@pytest.mark.both_backends
def test_a_compiled_search_without_a_minimum_is_nan_or_raises():
    def search(rate):
        found = minimize(lambda x: rate * ops.sum(ops.exp(x)), np.zeros(2), max_iterations=5)
        return found.minimizer, found.converged

    rate = tensor(0.5)
    if ON_JAX:
        minimizer, converged = compiled(search)(rate)
        assert np.isnan(minimizer).all()
        assert not bool(converged)
    else:
        import tensorflow as tf

        with pytest.raises(tf.errors.InvalidArgumentError, match="has not converged"):
            compiled(search)(rate)


@pytest.mark.both_backends
@pytest.mark.parametrize("size", [2, 101])
def test_no_derivative_of_a_minimum_that_is_not_unique(size):
    def minimizer(values):
        found = minimize(lambda x: ops.sum((ops.sum(x) - values[0]) ** 2), np.zeros(size))
        return ops.sum(found.minimizer * np.arange(size))

    values = [tensor(1.0)]
    if ON_JAX:
        assert np.isnan(value_and_gradients(minimizer, values)[1][0])
    else:
        with pytest.raises(ValueError, match="must be positive definite"):
            value_and_gradients(minimizer, values)


def test_a_second_derivative_that_is_nan_is_named():
    with pytest.raises(ValueError, match="second derivative is NaN"):
        minimize(lambda x: ops.sum(ops.abs(x) ** 1.5), np.zeros(2))
