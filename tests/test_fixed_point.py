"""Fixed points as differentiable values: a game against its closed form, and Kepler's equation."""

import numpy as np
import pytest
from compiled_gradients import gradients, tensor
from keras import ops
from precision import ON_JAX

from keras_extras._core.differentiation import value_and_gradients
from keras_extras._core.double_precision import double_precision
from keras_extras.autodiff import fixed_point, minimize


@pytest.fixture(autouse=True)
def double():
    with double_precision():
        yield


@pytest.mark.both_backends
def test_quadratic_game_equals_the_closed_form():
    """Each player minimizes; `x = a - b y / 2` and `y = 1 - c x / 2` at the equilibrium."""

    def equilibrium(a, b, c):
        def answers(choices):
            x, y = choices
            best_x = minimize(lambda x: (x - a) ** 2 + b * x * y, np.zeros(())).minimizer
            best_y = minimize(lambda y: (y - 1.0) ** 2 + c * x * y, np.zeros(())).minimizer
            return best_x, best_y

        x, y = fixed_point(answers, (np.zeros(()), np.zeros(()))).point
        return x + 2.0 * y

    def closed_form(a, b, c):
        x = (a - b / 2.0) / (1.0 - b * c / 4.0)
        return x + 2.0 * (1.0 - c * x / 2.0)

    values = 0.7, 0.5, -1.2
    found, expected = (gradients(of, *values) for of in (equilibrium, closed_form))
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.both_backends
@pytest.mark.parametrize("method", ["newton", "iteration"])
def test_kepler(method):
    """`de/dm = 1 / (1 - k cos e)`."""

    def anomaly(m, k):
        return fixed_point(lambda e: m + k * ops.sin(e), np.zeros(()), method=method).point

    e = float(anomaly(tensor(1.2), tensor(0.3)))
    np.testing.assert_allclose(e - 0.3 * np.sin(e), 1.2, rtol=1e-7 if ON_JAX else 1e-12)
    slope = 1.0 / (1.0 - 0.3 * np.cos(e))
    found = gradients(anomaly, 1.2, 0.3)
    # Keras' sine on JAX is of single precision.
    np.testing.assert_allclose(found, [slope, np.sin(e) * slope], rtol=1e-6 if ON_JAX else 1e-8)


@pytest.mark.both_backends
@pytest.mark.parametrize("size", [5, 120])
def test_a_matrix_that_is_not_symmetric(size):
    generator = np.random.default_rng(0)
    matrix = tensor(0.5 * generator.normal(size=(size, size)) / np.sqrt(size))
    factors = generator.normal(size=size)

    def total(b):
        found = fixed_point(lambda x: ops.matmul(matrix, x) + b, np.zeros(size)).point
        return ops.sum(found * factors)

    (found,) = gradients(total, np.ones(size))
    expected = np.linalg.solve(np.eye(size) - np.array(matrix).T, factors)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.both_backends
def test_unrolled():
    def after(b):
        found = fixed_point(
            lambda x: 0.5 * x + b,
            np.zeros(()),
            method="iteration",
            gradients="unrolled",
            max_iterations=3,
        )
        return found.point

    np.testing.assert_allclose(gradients(after, 1.0), [1.75], rtol=1e-12)


@pytest.mark.both_backends
@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (lambda x: x + 1.0, {}, "has not converged.*residual_norm=.*allowed="),
        (lambda x: ops.log(x - 1.0), {}, "must be finite"),
        (lambda x: (x, x), {}, "must return a structure like `start`"),
        (lambda x: ops.concatenate([x, x]), {}, "must return tensors of the shapes"),
        (lambda x: x, {"gradients": "unrolled"}, "needs method='iteration'"),
    ],
)
def test_errors(function, options, message):
    with pytest.raises(ValueError, match=message):
        fixed_point(function, np.zeros(2), max_iterations=5, **options)


@pytest.mark.both_backends
def test_no_derivative_of_a_fixed_point_that_is_not_unique():
    def total(values):
        return ops.sum(fixed_point(lambda x: x + 0.0 * values[0], np.ones(2)).point)

    if ON_JAX:
        assert np.isnan(value_and_gradients(total, [tensor(1.0)])[1][0])
    else:
        with pytest.raises(ValueError, match="must be regular"):
            value_and_gradients(total, [tensor(1.0)])
