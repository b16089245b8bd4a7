"""LBFGS within bounds: the minima of SciPy's L-BFGS-B and what they are bound by."""

import keras
import numpy as np
import pytest
import scipy.optimize
from keras import ops
from precision import ON_JAX

from keras_extras.constraints import Box
from keras_extras.optimizers import LBFGS, NewtonCG

_DTYPE = "float32" if ON_JAX else "float64"  # Keras' operations on JAX know no float64.
_GENERATOR = np.random.default_rng(4)
_MATRIX = _GENERATOR.normal(size=(12, 8))
_TARGET = _GENERATOR.normal(size=12)
_LABELS = (_TARGET > 0).astype("float64")


def _squares(m, w):
    return m.sum(m.square(m.sum(_constant(m, _MATRIX) * w, axis=1) - _constant(m, _TARGET)))


def _logistic(m, w):
    logits = m.sum(_constant(m, _MATRIX) * w, axis=1)
    return m.sum(m.log(1.0 + m.exp(logits)) - _constant(m, _LABELS) * logits)


def _rosenbrock(m, w):
    return m.sum(100.0 * m.square(w[1:] - m.square(w[:-1])) + m.square(1.0 - w[:-1]))


def _quadratic(m, w):
    curvatures = _constant(m, np.geomspace(1.0, 1e4, 20))
    shift = w - _constant(m, np.linspace(-2.0, 2.0, 20))
    return 0.5 * m.sum(curvatures * m.square(shift)) + 5.0 * m.square(m.sum(shift))


def _exponentials(m, w):
    t = _constant(m, np.linspace(0.0, 3.0, 30))
    return m.sum(m.square(w[0] * m.exp(-w[1] * t) + w[2] - 2.0 * m.exp(-1.5 * t) + 0.1))


def _constant(m, values):
    return values if m is np else ops.convert_to_tensor(values, _DTYPE)


# Function, start, lower and upper bound.
PROBLEMS = {
    "nonnegative least squares": (_squares, np.full(8, 0.5), 0.0, None),
    "logistic regression": (_logistic, np.zeros(8), -0.3, 0.3),
    "Rosenbrock": (_rosenbrock, np.full(6, -1.0), -1.5, 0.8),
    "quadratic": (_quadratic, np.zeros(20), -1.0, 1.0),
    "exponential": (_exponentials, np.ones(3), 0.0, 5.0),
}


def _minimized(name, optimizer):
    function, start, lower, upper = PROBLEMS[name]
    w = keras.Variable(start, dtype=_DTYPE)
    w.constraint = keras.constraints.NonNeg() if upper is None else Box(lower, upper)
    optimizer.build([w])
    for _ in range(5):
        optimizer.minimize(lambda: function(ops, w), [w])
    return np.asarray(w.numpy(), "float64")


@pytest.mark.both_backends
@pytest.mark.parametrize("name", PROBLEMS)
def test_minima_are_those_of_scipy(name):
    function, start, lower, upper = PROBLEMS[name]
    optimizer = LBFGS(iterations_per_batch=200, tolerance=1e-3 if ON_JAX else 1e-9)
    w = _minimized(name, optimizer)
    found = scipy.optimize.minimize(
        lambda w: float(function(np, w)),
        start,
        method="L-BFGS-B",
        bounds=[(lower, upper)] * len(start),
        jac=lambda w: scipy.optimize.approx_fprime(w, lambda w: float(function(np, w)), 1e-8),
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 10_000},
    )
    assert w.min() >= (np.float32(lower) if ON_JAX else lower)
    assert upper is None or w.max() <= np.float32(upper) + 1e-7 * ON_JAX
    loss = float(function(np, w))
    assert loss <= found.fun + (1e-4 if ON_JAX else 1e-8) * abs(found.fun)
    if not ON_JAX:
        for bound in [lower, *([] if upper is None else [upper])]:
            at_bound = np.abs(w - bound) < 1e-12
            np.testing.assert_array_equal(at_bound, np.abs(found.x - bound) < 1e-12)
        assert (np.abs(w - lower) < 1e-12).any() or (np.abs(w - (upper or 0.0)) < 1e-12).any()


@pytest.mark.both_backends
def test_nonnegative_regression_in_fit():
    x, y = _MATRIX.astype("float32"), _TARGET[:, None].astype("float32")
    dense = keras.layers.Dense(1, use_bias=False, kernel_constraint="non_neg")
    model = keras.Sequential([keras.Input((8,)), dense])
    optimizer = LBFGS(tolerance=1e-5)
    model.compile(optimizer, "mse")
    model.fit(x, y, batch_size=12, epochs=8, verbose=0)
    expected, _ = scipy.optimize.nnls(_MATRIX, _TARGET)
    kernel = ops.convert_to_numpy(dense.kernel)[:, 0]
    np.testing.assert_allclose(kernel, expected, atol=1e-4)
    np.testing.assert_array_equal(kernel == 0.0, expected == 0.0)
    assert optimizer.converged


def test_weights_outside_are_brought_in():
    w = keras.Variable([3.0, -4.0])
    w.constraint = Box(-1.0, 1.0)
    LBFGS().minimize(lambda: ops.sum((w - 0.5) ** 2), [w])
    np.testing.assert_allclose(w.numpy(), [0.5, 0.5], atol=1e-5)


def test_other_constraints_are_errors():
    w = keras.Variable([1.0])
    w.constraint = keras.constraints.MaxNorm(1.0)
    with pytest.raises(ValueError, match="cannot keep a constraint but `NonNeg`"):
        LBFGS().build([w])
    w.constraint = Box(0.0, 1.0)
    with pytest.raises(ValueError, match="cannot keep a constraint; leave it out"):
        NewtonCG().build([w])


def test_bad_bounds():
    with pytest.raises(ValueError, match="`lower` or `upper` must be given"):
        Box()
    with pytest.raises(ValueError, match="`upper` must be greater than `lower`"):
        Box(1.0, 1.0)
