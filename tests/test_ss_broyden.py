"""SSBroyden: the formula of its paper, quadratics, the valley, and life in `fit`."""

import keras
import numpy as np
import pytest
from contract_support import saved_and_loaded
from keras import ops
from precision import ON_JAX
from second_order import rosenbrock
from tiers import quick

from keras_extras.optimizers import SSBroyden

_DTYPE = "float32" if ON_JAX else "float64"  # Keras' operations on JAX know no float64.


def _reference(inverse, step, change, gradient, length, is_first):
    """As printed: with b by the length of the step and the gradient that it started from."""
    size = len(step)
    rho = 1.0 / (step @ change)
    hy = inverse @ change
    yhy = change @ hy
    h, b = yhy * rho, -length * rho * (step @ gradient)
    a = h * b - 1.0
    lower = min(1.0, h * (1.0 - np.sqrt(abs(a) / (1.0 + a))))
    theta = max((lower - 1.0) / a, min(1.0 / lower, (1.0 - b) / b))
    sigma = 1.0 + theta * a
    if is_first:
        tau = h / sigma
    elif theta <= 0.0:
        tau = min(min(1.0, 1.0 / b) * sigma ** (-1.0 / (size - 1)), sigma)
    else:
        tau = min(1.0, 1.0 / b) * min(sigma ** (-1.0 / (size - 1)), 1.0 / theta)
    v = step * rho - hy / yhy
    phi = (1.0 - theta) / (1.0 + theta * a)
    inverse = inverse - np.outer(hy, hy) / yhy + phi * yhy * np.outer(v, v)
    return inverse / tau + rho * np.outer(step, step)


def test_updates_are_those_of_the_paper():
    w = keras.Variable([-1.2, 1.0, 0.7], dtype="float64")
    optimizer = SSBroyden(iterations_per_batch=1)
    loss = lambda: rosenbrock(w) + ops.square(w[2] * w[0] - 2.0)  # noqa: E731

    def gradient(x, y, z):
        of_pair = 2.0 * (x * z - 2.0)
        of_x = -400.0 * x * (y - x * x) - 2.0 * (1.0 - x) + of_pair * z
        return np.array([of_x, 200.0 * (y - x * x), of_pair * x])

    optimizer.build([w])
    inverse = np.eye(3)
    for number in range(8):
        before = w.numpy()
        optimizer.minimize(loss, [w])
        step = w.numpy() - before
        g = gradient(*before)
        length = np.linalg.norm(step) / np.linalg.norm(inverse @ g)
        change = gradient(*w.numpy()) - g
        # b is `-length * rho * s.g` where s is the direction times the length.
        inverse = _reference(inverse, step, change, g, length, number == 0)
        np.testing.assert_allclose(optimizer._memory[0].numpy(), inverse, rtol=1e-6)
        # The secant equation.
        np.testing.assert_allclose(inverse @ change, step, rtol=1e-6)


@pytest.mark.both_backends
def test_rosenbrock():
    w = keras.Variable([-1.2, 1.0], dtype=_DTYPE)
    optimizer = SSBroyden(iterations_per_batch=100)
    optimizer.minimize(lambda: rosenbrock(w), [w])
    np.testing.assert_allclose(w.numpy(), [1.0, 1.0], atol=2e-3 if ON_JAX else 1e-6)
    assert optimizer.evaluations < (80 if ON_JAX else 60)  # SciPy's BFGS takes about 40


def test_an_ill_conditioned_quadratic():
    """Curvatures from 1 to 1e8: to the minimum in about as many steps as there are weights."""
    curvatures = np.geomspace(1.0, 1e8, 12)
    w = keras.Variable(np.ones(12), dtype="float64")
    optimizer = SSBroyden(iterations_per_batch=200, tolerance=1e-9)
    optimizer.minimize(lambda: ops.sum(ops.convert_to_tensor(curvatures) * w**2), [w])
    np.testing.assert_allclose(w.numpy(), 0.0, atol=1e-9)
    assert optimizer.evaluations < 150


def _regression(optimizer, **arguments):
    x = np.random.default_rng(1).normal(size=(64, 4)).astype("float32")
    y = np.tanh(x[:, :1] - x[:, 1:2] * x[:, 2:3])
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(6, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer, "mse", **arguments)
    return model, x, y


@pytest.mark.both_backends
@pytest.mark.parametrize("jit_compile", quick([False, True], False))
def test_fit_goes_on_where_it_was_interrupted(jit_compile):
    model, x, y = _regression(SSBroyden(), jit_compile=jit_compile, steps_per_execution=1)
    losses = model.fit(x, y, batch_size=64, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]
    loaded = saved_and_loaded(model)
    for one in (model, loaded):
        one.fit(x, y, batch_size=64, epochs=1, shuffle=False, verbose=0)
    for mine, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def test_one_weight():
    w = keras.Variable([3.0], dtype="float64")
    optimizer = SSBroyden(iterations_per_batch=30)
    optimizer.minimize(lambda: ops.sum(ops.cosh(w - 1.0)), [w])
    np.testing.assert_allclose(w.numpy(), [1.0], atol=1e-6)


def test_many_weights_are_an_error():
    with pytest.raises(ValueError, match="Received: 10,001 weights"):
        SSBroyden().build([keras.Variable(np.zeros(10_001))])
