"""LevenbergMarquardt: minima of SciPy, closed forms, its solvers, and the losses it refuses."""

import keras
import numpy as np
import pytest
from contract_support import saved_and_loaded
from keras import ops
from precision import ON_JAX
from scipy.optimize import least_squares
from tiers import quick

from keras_extras.callbacks import StopWhenConverged
from keras_extras.optimizers import LevenbergMarquardt, PartitionedOptimizer
from keras_extras.optimizers.normal_equations import DenseEquations, ProductEquations
from keras_extras.optimizers.residuals import Curvatures, ModelResiduals

_DTYPE = "float32" if ON_JAX else "float64"  # Keras' operations on JAX know no float64.


class Curve(keras.layers.Layer):
    """A curve of a few numbers, its weights."""

    def __init__(self, function, start, **arguments):
        super().__init__(**arguments)
        self.function, self.start = function, start

    def build(self, input_shape):
        constant = lambda shape, dtype=None: ops.convert_to_tensor(self.start, dtype)  # noqa: E731
        self.w = self.add_weight(shape=(len(self.start),), initializer=constant)

    def call(self, x):
        return self.function(ops, x, self.w)


# Function, start, the numbers of the data, and where they are measured.
CURVES = {
    "exponential decay": (
        lambda m, x, w: w[0] * m.exp(-w[1] * x) + w[2],
        *([1.0, 1.0, 0.0], [2.5, 1.3, 0.5], np.linspace(0.0, 4.0, 50)),
    ),
    "Gaussian peak": (
        lambda m, x, w: w[0] * m.exp(-0.5 * m.square((x - w[1]) / w[2])),
        *([2.0, 2.0, 1.0], [3.0, 2.2, 0.4], np.linspace(0.0, 5.0, 60)),
    ),
    "logistic growth": (
        lambda m, x, w: w[0] / (1.0 + m.exp(-w[1] * (x - w[2]))),
        *([50.0, 0.2, 4.0], [120.0, 0.9, 6.0], np.linspace(0.0, 12.0, 40)),
    ),
    "Michaelis-Menten": (
        lambda m, x, w: w[0] * x / (w[1] + x),
        *([100.0, 0.1], [200.0, 0.06], np.repeat([0.02, 0.06, 0.11, 0.22, 0.56, 1.1], 2)),
    ),
    "damped sine": (
        lambda m, x, w: w[0] * m.exp(-w[1] * x) * m.sin(w[2] * x + w[3]),
        *([1.0, 0.1, 2.0, 0.0], [2.0, 0.3, 2.2, 0.5], np.linspace(0.0, 10.0, 80)),
    ),
}


@pytest.fixture
def floatx():
    """Double precision, where there is one."""
    before = keras.config.floatx()
    keras.config.set_floatx(_DTYPE)
    keras.config.set_dtype_policy(_DTYPE)
    yield _DTYPE
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", CURVES)
def test_curves_reach_the_minimum_of_scipy_after_as_many_evaluations(name, floatx):
    function, start, truth, x = CURVES[name]
    exact = function(np, x, np.array(truth))
    y = exact + 0.05 * np.abs(exact).max() * np.random.default_rng(0).normal(size=x.shape)
    found = least_squares(lambda w: function(np, x, w) - y, start)
    curve = Curve(function, start)
    model = keras.Sequential([keras.Input((1,)), curve])
    optimizer = LevenbergMarquardt(iterations_per_batch=100, tolerance=1e-7)
    model.compile(optimizer, "mse")
    model.fit(x[:, None], y[:, None], batch_size=len(x), verbose=0)
    loss = 0.5 * np.sum((function(np, x, curve.w.numpy()) - y) ** 2)
    assert loss <= found.cost * (1.0 + 1e-8)
    assert optimizer.evaluations <= 1.3 * found.nfev


@pytest.mark.both_backends
@pytest.mark.parametrize("solver", ["dense", "products"])
def test_a_linear_model_with_weights_and_penalties_is_a_ridge_regression(solver, floatx):
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(40, 3)), generator.normal(size=(40, 2))
    weight = generator.uniform(0.0, 2.0, size=40)
    penalty = keras.regularizers.L2(0.1)
    dense = keras.layers.Dense(2, use_bias=False, kernel_regularizer=penalty)
    model = keras.Sequential([keras.Input((3,)), dense])
    model.compile(LevenbergMarquardt(solver=solver, iterations_per_batch=50, tolerance=0.0), "mse")
    model.fit(x, y, sample_weight=weight, batch_size=40, epochs=3, verbose=0)
    matrix = (x * weight[:, None]).T @ x / 80 + 0.1 * np.eye(3)
    expected = np.linalg.solve(matrix, (x * weight[:, None]).T @ y / 80)
    np.testing.assert_allclose(dense.kernel, expected, atol=1e-4 if ON_JAX else 1e-9)


def _network(optimizer, loss="mse", layers=(), **arguments):
    x = np.random.default_rng(1).normal(size=(64, 4)).astype("float32")
    y = np.tanh(x[:, :1] - x[:, 1:2] * x[:, 2:3])
    keras.utils.set_random_seed(3)
    hidden = [keras.layers.Dense(6, "tanh"), *layers, keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *hidden])
    model.compile(optimizer, loss, **arguments)
    return model, x, y


@pytest.mark.both_backends
@pytest.mark.parametrize("jit_compile", quick([False, True], False))
def test_batches_of_a_network(jit_compile):
    model, x, y = _network(LevenbergMarquardt(), jit_compile=jit_compile, steps_per_execution=2)
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, batch_size=32, epochs=4, shuffle=False, verbose=0)
    assert model.evaluate(x, y, verbose=0) < 0.3 * before


@pytest.mark.both_backends
@pytest.mark.parametrize("kind", ["rows", "rows that depend on each other"])
def test_products_and_the_jacobian_give_the_same_step(kind):
    steps = {}
    for solver in ("dense", "products"):
        optimizer = LevenbergMarquardt(
            solver=solver, scaling="ones", initial_damping=0.3, iterations_per_batch=1
        )
        layers = [keras.layers.BatchNormalization()] * (kind != "rows")
        model, x, y = _network(optimizer, layers=layers)
        start = [ops.convert_to_numpy(w) for w in model.trainable_weights]
        model.fit(x, y, batch_size=64, verbose=0)
        moves = [w - old for w, old in zip(model.trainable_weights, start)]
        steps[solver] = np.concatenate([np.ravel(move) for move in moves])
    dense, products = steps.values()
    assert np.linalg.norm(dense - products) < 0.01 * np.linalg.norm(dense)
    assert np.linalg.norm(dense) > 0.1


@pytest.mark.both_backends
@pytest.mark.parametrize("rows", [3, 30], ids=["wide", "tall"])
def test_solutions_are_those_of_numpy(rows):
    generator = np.random.default_rng(2)
    jacobian = generator.normal(size=(rows, 5))
    slope, curvature, damping, penalty_slope, penalty = (
        generator.uniform(0.5, 1.5, size=size) for size in (rows, rows, 5, 5, 5)
    )
    gradient = jacobian.T @ slope + penalty_slope
    matrix = jacobian.T @ (curvature[:, None] * jacobian) + np.diag(penalty + damping)
    as_tensors = lambda *parts: [ops.convert_to_tensor(p, _DTYPE) for p in parts]  # noqa: E731
    curvatures = Curvatures(*as_tensors(slope, curvature, penalty_slope, penalty))
    dense = DenseEquations(*as_tensors(jacobian), curvatures)
    products = ProductEquations(dense.product, 1e-7)
    expected = -np.linalg.solve(matrix, gradient)
    error = 1e-4 if ON_JAX else 1e-6
    for equations in (dense, products):
        found = equations.solve(*as_tensors(damping, gradient))
        np.testing.assert_allclose(found, expected, rtol=error, atol=error)


@pytest.mark.both_backends
def test_the_jacobian_by_rows_is_that_by_columns():
    optimizer = LevenbergMarquardt()
    model, x, _ = _network(optimizer)
    optimizer.build(model.trainable_variables)

    class Batch:
        def __init__(self, x):
            self.x = ops.convert_to_tensor(x)

        def outputs(self, x):
            return {"twice": model(x), "pair": ops.concatenate([model(x), x[:, :1]], axis=1)}

    problem = ModelResiduals(Batch(x), model.trainable_variables, optimizer._shaped, "float32")
    point = optimizer._flat(model.trainable_variables)
    rows = ops.convert_to_numpy(problem.jacobian_by_rows(point))
    assert rows.shape == (3 * 64, model.count_params())
    np.testing.assert_allclose(rows, problem.jacobian_by_columns(point), atol=1e-5)


@pytest.mark.both_backends
def test_several_outputs_masks_and_weights_of_losses():
    """A minimum has a gradient of zero, whatever the loss is made of."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(16, 5, 2)).astype("float32")
    x[3:9, 2:] = 0.0
    inputs = keras.Input((5, 2))
    hidden = keras.layers.Masking()(inputs)
    steps = keras.layers.Dense(2, name="steps")(hidden)
    total = keras.layers.Dense(1, name="total")(keras.layers.GlobalAveragePooling1D()(hidden))
    model = keras.Model(inputs, {"steps": steps, "total": total})
    y = {"steps": generator.normal(size=(16, 5, 2)), "total": generator.normal(size=(16, 1))}
    y = {name: part.astype("float32") for name, part in y.items()}
    optimizer = LevenbergMarquardt(tolerance=1e-5)
    model.compile(
        optimizer, {"steps": "mse", "total": "mse"}, loss_weights={"steps": 0.3, "total": 2.0}
    )
    model.fit(x, y, batch_size=16, epochs=3, callbacks=[StopWhenConverged()], verbose=0)
    assert optimizer.converged
    kept = (x != 0.0).any(-1)
    design = np.concatenate([x[kept], np.ones((kept.sum(), 1))], axis=1)
    expected = np.linalg.lstsq(design, y["steps"][kept], rcond=None)[0]
    np.testing.assert_allclose(model.get_layer("steps").kernel, expected[:2], atol=1e-3)


@pytest.mark.both_backends
def test_rosenbrock_by_a_function_of_residuals():
    w = keras.Variable([-1.2, 1.0], dtype=_DTYPE)
    optimizer = LevenbergMarquardt(iterations_per_batch=50, tolerance=1e-7)
    residuals = lambda: ops.stack([10.0 * (w[1] - w[0] ** 2), 1.0 - w[0]])  # noqa: E731
    optimizer.minimize(residuals, [w])
    np.testing.assert_allclose(w.numpy(), [1.0, 1.0], atol=1e-4 if ON_JAX else 1e-7)
    assert optimizer.evaluations < 30  # SciPy's "lm" takes 21
    with pytest.raises(ValueError, match="Received: a function that returns a scalar"):
        optimizer.minimize(lambda: ops.sum(residuals() ** 2), [w])


def test_steps_that_raise_the_loss_are_rejected():
    """The undamped step of arctan from 3 goes to -9.5, and on to infinity."""
    w = keras.Variable([3.0])
    optimizer = LevenbergMarquardt(initial_damping=1e-6, iterations_per_batch=1, tolerance=0.0)
    values = [3.0]
    for _ in range(12):
        optimizer.minimize(lambda: ops.arctan(w), [w])
        values.append(abs(float(w.numpy()[0])))
    assert values == sorted(values, reverse=True)
    assert values[-1] < 1e-6
    assert optimizer.evaluations > 24  # one for each batch, one for each step, and rejected ones


def test_no_lower_loss_leaves_the_weights():
    w = keras.Variable([0.0])
    optimizer = LevenbergMarquardt(tolerance=0.0)
    # The derivative is a lie: the loss rises either way.
    optimizer.minimize(lambda: 1.0 + ops.abs(w) + w - ops.stop_gradient(w), [w])
    np.testing.assert_array_equal(w.numpy(), [0.0])
    assert optimizer.converged


@pytest.mark.both_backends
@pytest.mark.parametrize(
    "loss",
    quick(
        ["mae", "huber", "log_cosh", "binary_crossentropy", "poisson", "cosine_similarity"],
        *("mae", "huber", "binary_crossentropy"),
    ),
)
def test_other_losses_are_refused(loss):
    model, x, y = _network(LevenbergMarquardt(), loss)
    before = model.get_weights()
    with pytest.raises(ValueError, match="the loss is no sum of squares"):
        model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    for mine, theirs in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("kind", ["L1", "activity", "negative weights"])
def test_other_penalties_and_weights_are_refused(kind):
    penalties = {
        "L1": {"kernel_regularizer": "l1"},
        "activity": {"activity_regularizer": "l2"},
        "negative weights": {},
    }
    layer = keras.layers.Dense(6, "tanh", **penalties[kind])
    model, x, y = _network(LevenbergMarquardt(), layers=[layer])
    weight = np.where(np.arange(64) == 3, -1.0, 1.0) if kind == "negative weights" else None
    with pytest.raises(ValueError, match="the loss is no sum of squares"):
        model.fit(x, y, sample_weight=weight, batch_size=64, verbose=0)


@pytest.mark.both_backends
def test_squares_that_keras_does_not_know_are_taken():
    model, x, y = _network(LevenbergMarquardt(), lambda y, z: 3.0 * ops.sum((y - z) ** 2, axis=-1))
    before = model.evaluate(x, y, verbose=0)
    losses = model.fit(x, y, batch_size=64, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * before


@pytest.mark.both_backends
def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_weights():
    model, x, y = _network(LevenbergMarquardt())
    before = model.get_weights()
    x[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite where levenberg_marquardt started"):
        model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    for mine, theirs in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.both_backends
def test_a_resumed_run_equals_an_uninterrupted_one():
    model, x, y = _network(LevenbergMarquardt(iterations_per_batch=2))
    model.fit(x, y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    loaded = saved_and_loaded(model)
    assert loaded.optimizer.damping == model.optimizer.damping > 0.0
    for one in (model, loaded):
        one.fit(x, y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    for mine, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_parts_and_strategies_are_refused():
    import tensorflow as tf

    parts = PartitionedOptimizer({"dense_1/*": LevenbergMarquardt(), "*": "adam"})
    model, x, y = _network(parts)
    with pytest.raises(ValueError, match="needs the residuals of the loss"):
        model.fit(x, y, batch_size=64, verbose=0)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model, x, y = _network(LevenbergMarquardt())
        with pytest.raises(ValueError, match=r"without a strategy of `tf\.distribute`"):
            model.fit(x, y, batch_size=64, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "qr"}, "`solver` must be one of 'auto', 'dense', 'products'"),
        ({"scaling": "rows"}, "`scaling` must be one of 'auto', 'columns', 'ones'"),
        ({"initial_damping": 0.0}, "`initial_damping` must be greater than 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LevenbergMarquardt(**arguments)


def test_products_know_no_columns():
    optimizer = LevenbergMarquardt(solver="products", scaling="columns")
    with pytest.raises(ValueError, match='`scaling="columns"` needs the Jacobian'):
        optimizer.build([keras.Variable([1.0])])
