"""NewtonCG: closed forms, negative curvature, the optimum of scikit-learn, and its Hessians."""

import keras
import numpy as np
import pytest
from keras import ops
from precision import tf
from second_order import (
    assert_at_optimum,
    cancer_model,
    cancer_optimum,
    rosenbrock,
)

from keras_extras.callbacks import StopWhenConverged
from keras_extras.optimizers import NewtonCG


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_full_step_is_at_the_minimum_of_a_quadratic(dtype):
    generator = np.random.default_rng(2)
    root = generator.normal(size=(4, 4))
    matrix = ops.convert_to_tensor(root @ root.T + np.eye(4), dtype)
    minimum = generator.normal(size=4)
    w = keras.Variable(np.zeros(4), dtype=dtype)
    optimizer = NewtonCG(hessian="full", iterations_per_batch=1)

    def loss():
        shift = w - ops.convert_to_tensor(minimum, dtype)
        return 3.0 + 0.5 * ops.sum(shift * ops.matmul(matrix, shift))

    optimizer.minimize(loss, [w])
    np.testing.assert_allclose(w.numpy(), minimum, atol=1e-5 if dtype == "float32" else 1e-12)
    assert optimizer.evaluations == 2
    assert optimizer.hessian_products == 4


def test_as_many_products_as_weights_solve_a_quadratic():
    """Conjugate gradients end in one iteration for each distinct curvature."""
    curvatures = np.array([1.0, 1.0, 4.0, 9.0])
    w = keras.Variable(np.array([1e-4, -1e-4, 1e-4, 1e-4]), dtype="float64")
    optimizer = NewtonCG(hessian="products", iterations_per_batch=3, tolerance=1e-14)
    optimizer.minimize(lambda: ops.sum(ops.convert_to_tensor(curvatures) * w**2), [w])
    np.testing.assert_allclose(w.numpy(), 0.0, atol=1e-13)
    assert optimizer.hessian_products <= 9


@pytest.mark.parametrize(("hessian", "evaluations"), [("full", 60), ("products", 200)])
def test_rosenbrock(hessian, evaluations):
    w = keras.Variable([-1.2, 1.0], dtype="float64")
    optimizer = NewtonCG(hessian=hessian, iterations_per_batch=100, tolerance=1e-10)
    optimizer.build([w])
    tf.function(lambda: optimizer.minimize(lambda: rosenbrock(w), [w]))()
    np.testing.assert_allclose(w.numpy(), [1.0, 1.0], atol=1e-9)
    assert optimizer.evaluations < evaluations


@pytest.mark.parametrize("hessian", ["full", "products"])
def test_negative_curvature_leads_away_from_a_saddle(hessian):
    """The saddle of (x^2 - 1)^2 + y^2 is at 0; its minima are at x = 1 and x = -1."""
    w = keras.Variable([1e-3, 0.7])
    optimizer = NewtonCG(hessian=hessian, iterations_per_batch=30)
    optimizer.minimize(lambda: ops.square(w[0] ** 2 - 1.0) + w[1] ** 2, [w])
    np.testing.assert_allclose(np.abs(w.numpy()), [1.0, 0.0], atol=1e-5)


@pytest.mark.both_backends
@pytest.mark.parametrize("hessian", ["full", "products"])
def test_cancer_reaches_the_optimum_of_scikit_learn(hessian):
    optimum = cancer_optimum("newton-cg")
    optimizer = NewtonCG(hessian=hessian)
    model, x, y = cancer_model(optimizer)
    stop = StopWhenConverged()
    model.fit(x, y, batch_size=len(x), epochs=10, callbacks=[stop], verbose=0)
    assert stop.stopped_epoch < 5
    assert_at_optimum(model, optimum)


@pytest.mark.parametrize(("hidden", "products"), [(4, 4 * 4 + 4 + 4 + 1), (30, None)])
def test_auto_takes_the_full_hessian_of_small_models(hidden, products):
    x = np.random.default_rng(1).normal(size=(32, 4)).astype("float32")
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(hidden, "tanh"), keras.layers.Dense(1)]
    )
    optimizer = NewtonCG(iterations_per_batch=1)
    model.compile(optimizer, "mse")
    model.fit(x, x[:, :1] * x[:, 1:2], batch_size=32, verbose=0)
    if products is None:
        assert 0 < optimizer.hessian_products < model.count_params()
    else:
        assert optimizer.hessian_products == products == model.count_params()


def test_layers_of_images():
    x = np.random.default_rng(1).normal(size=(16, 6, 6, 1)).astype("float32")
    layers = [
        keras.layers.Conv2D(2, 3, activation="tanh"),
        keras.layers.BatchNormalization(),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential([keras.Input((6, 6, 1)), *layers])
    model.compile(NewtonCG(hessian="products", iterations_per_batch=3), "mse")
    targets = x.mean((1, 2))
    before = model.evaluate(x, targets, verbose=0)
    losses = model.fit(x, targets, batch_size=16, epochs=2, verbose=0).history["loss"]
    assert losses[-1] < 0.2 * before


@pytest.mark.parametrize("hessian", ["full", "products"])
def test_recurrent_layers(hessian):
    x = np.random.default_rng(1).normal(size=(16, 4, 2)).astype("float32")
    layers = [keras.layers.LSTM(2), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4, 2)), *layers])
    model.compile(NewtonCG(hessian=hessian, iterations_per_batch=3), "mse")
    targets = np.tanh(x.sum((1, 2)))[:, None]
    before = model.evaluate(x, targets, verbose=0)
    losses = model.fit(x, targets, batch_size=16, epochs=2, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * before


def test_bad_hessian():
    with pytest.raises(ValueError, match="`hessian` must be one of 'auto', 'full', 'products'"):
        NewtonCG(hessian="diagonal")


def test_a_flat_bowl_is_no_saddle():
    """Curvatures far below those of standardized data are positive all the same."""
    w = keras.Variable([1.0, -2.0])
    optimizer = NewtonCG(hessian="products", tolerance=1e-14)
    optimizer.minimize(lambda: 1e-9 * ops.sum(ops.convert_to_tensor([1.0, 3.0]) * w**2), [w])
    np.testing.assert_allclose(w.numpy(), 0.0, atol=1e-4)
