"""Derivatives of models against closed forms, against each other and against differences."""

import keras
import numpy as np
import pytest
from derivative_cases import (
    CLASSES,
    OF_DIFFERENCES,
    ONES,
    RNG,
    SquarePenalty,
    X,
    Y,
    assert_close,
    difference,
    flat,
    linear,
    network,
    random_like,
    random_vector,
)
from keras import ops
from precision import WIDE, needs_tensorflow

from keras_extras import autodiff, layers, losses, optimizers
from keras_extras.autodiff.dense_derivatives import jacobian_matrix

pytestmark = [pytest.mark.both_backends, pytest.mark.usefixtures("float64")]

WEIGHTS = RNG.uniform(0.5, 2.0, size=6)
CURVATURE_MODES = ("reverse_over_reverse", "forward_over_reverse")
SOFTMAX = keras.losses.CategoricalCrossentropy(from_logits=True, dtype=WIDE)


def test_least_squares():
    model = linear(1)
    residuals = model.predict(X, verbose=0)[:, 0] - Y[:, 0]
    gradient = autodiff.gradient(model, X, Y[:, :1], loss="mse")
    assert_close(flat(gradient), 2 * ONES.T @ residuals / 6)
    for mode in CURVATURE_MODES:
        hessian = autodiff.hessian(model, X, Y[:, :1], loss="mse", mode=mode)
        assert_close(hessian, 2 * ONES.T @ ONES / 6)
    of_inputs = autodiff.hessian(model, X, Y[:, :1], loss="mse", wrt="inputs")
    kernel = model.get_weights()[0]
    assert_close(of_inputs, np.kron(np.eye(6), 2 * kernel @ kernel.T / 6))


def test_derivatives_in_a_scope_are_those_of_its_values():
    model = linear(1)
    kernel = model.trainable_variables[0]
    with keras.StatelessScope([(kernel, 2.0 * ops.ones(kernel.shape))]):
        of_inputs = autodiff.jacobian(model, X, wrt="inputs")
    assert_close(of_inputs, np.full((len(X), 1, X.shape[1]), 2.0))


@needs_tensorflow
@pytest.mark.parametrize("units", [1, 2])
@pytest.mark.parametrize("vectorize", [True, False])
def test_a_search_differentiates_its_candidates(units, vectorize):
    import tensorflow as tf

    dense = keras.layers.Dense(units, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((X.shape[1],)), dense])
    optimizer = optimizers.MonteCarloOptimizer(0.5, population_size=16, vectorize=vectorize, seed=1)

    def loss_fn():
        return ops.mean((autodiff.jacobian(model, X, wrt="inputs") - 3.0) ** 2)

    def step():
        optimizer.minimize(loss_fn, model.trainable_variables)

    step = tf.function(step)
    for _ in range(20):
        step()
    assert float(loss_fn()) < 1.0  # 4 at the start


def test_the_matrix_of_a_linear_function():
    matrices = [ops.convert_to_tensor(RNG.normal(size=(4, size)), WIDE) for size in (3, 2)]
    values = [ops.zeros((size,), WIDE) for size in (3, 2)]

    def function(values):
        first, second = (ops.matmul(a, value) for a, value in zip(matrices, values))
        return [first[:2] + second[:2], first[2:] + second[2:]]

    found = jacobian_matrix(function, values, function(values))
    assert_close(found, np.concatenate(matrices, axis=1))


def test_logistic_regression_with_sample_weights():
    model = linear(1, "sigmoid")
    p = model.predict(X, verbose=0)[:, 0]
    data = {"x": X, "y": CLASSES[:, :1], "sample_weight": WEIGHTS}
    data["loss"] = keras.losses.BinaryCrossentropy()
    assert_close(
        flat(autodiff.gradient(model, **data)), ONES.T @ (WEIGHTS * (p - CLASSES[:, 0])) / 6
    )
    hessian = ONES.T @ (ONES * (WEIGHTS * p * (1 - p))[:, None]) / 6
    assert_close(autodiff.hessian(model, **data), hessian)
    assert_close(flat(autodiff.hessian(model, **data, diagonal=True)), np.diag(hessian))


def test_softmax_regression():
    model = linear(2)
    p = np.asarray(ops.softmax(model(X)))
    of_logits = np.einsum("ni,ij->nij", p, np.eye(2)) - np.einsum("ni,nj->nij", p, p)
    # The order of the entries: the kernel's rows, then the bias.
    expected = np.einsum("na,nb,nij->aibj", ONES, ONES, of_logits).reshape(8, 8) / 6
    assert_close(autodiff.hessian(model, X, CLASSES, loss=SOFTMAX), expected)
    vector = random_vector(model, "weights")
    product = autodiff.gauss_newton_vector_product(model, X, CLASSES, vector, loss=SOFTMAX)
    assert_close(flat(product), expected @ flat(vector))


def test_gradient_is_the_step_of_fit():
    """With dropout, batch normalization, regularizers, added losses and two weighted outputs."""
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, "tanh", kernel_regularizer="l2")(inputs)
    hidden = keras.layers.Dropout(0.5, seed=1)(keras.layers.BatchNormalization()(hidden))
    hidden = keras.layers.ActivityRegularization(l2=0.1)(hidden)
    outputs = {name: keras.layers.Dense(2, name=name)(hidden) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    loss = {"a": "mse", "b": keras.losses.Huber()}
    model.compile(keras.optimizers.SGD(1.0), loss, loss_weights={"a": 1.0, "b": 0.3})
    targets = {"a": Y, "b": -Y}
    states = [np.asarray(variable) for variable in model.non_trainable_variables]
    gradient = autodiff.gradient(model, X, targets, sample_weight=WEIGHTS, training=True)
    for variable, state in zip(model.non_trainable_variables, states, strict=True):
        np.testing.assert_array_equal(variable, state)  # as they were
    before = [np.asarray(variable) for variable in model.trainable_variables]
    model.train_on_batch(X, targets, sample_weight=WEIGHTS)
    assert_close(flat(before) - flat(model.trainable_variables), flat(gradient))


def test_losses_in_every_form_that_compile_takes():
    inputs = keras.Input((3,))
    outputs = {name: keras.layers.Dense(2, name=name)(inputs) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    model.compile(loss={"a": "mse", "b": keras.losses.Huber(0.3)})
    targets = {"a": Y, "b": -Y}
    expected = flat(autodiff.gradient(model, X, targets))

    def squares(y_true, y_pred):
        return ops.mean((y_true - y_pred) ** 2, axis=-1)

    for of_a in ("mse", squares, keras.losses.MeanSquaredError()):
        loss = {"b": keras.losses.Huber(0.3), "a": of_a}
        assert_close(flat(autodiff.gradient(model, X, targets, loss=loss)), expected)


def test_masked_rows_count_neither_in_the_loss_nor_in_its_curvature():
    dense = keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.Masking(), dense])
    x, y = RNG.normal(size=(2, 4, 3)), RNG.normal(size=(2, 4, 1))
    x[:, 2:] = 0.0
    kept = np.concatenate([x[:, :2].reshape(4, 3), np.ones((4, 1))], axis=1)
    hessian = 2 * kept.T @ kept / 4
    # Keras 3.12 adds 1e-7 to the number of what is not masked.
    assert_close(autodiff.hessian(model, x, y, loss="mse"), hessian, rtol=1e-7)
    vector = random_like(model.trainable_variables)
    product = autodiff.gauss_newton_vector_product(model, x, y, vector, loss="mse")
    assert_close(flat(product), hessian @ flat(vector), rtol=1e-7)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("wrt", ["weights", "inputs", "both"])
def test_hessian_products_agree_with_the_matrix(wrt, training):
    model = network()
    model.add(keras.layers.Dropout(0.3, seed=1))
    data = {"x": X, "y": Y, "loss": "mse", "wrt": wrt, "training": training}
    matrix = np.asarray(autodiff.hessian(model, **data))
    assert_close(matrix, np.transpose(matrix))
    vector = random_vector(model, wrt)
    for mode in CURVATURE_MODES:
        product = autodiff.hessian_vector_product(model, vector=vector, **data, mode=mode)
        assert_close(flat(product), matrix @ flat(vector))
    assert_close(flat(autodiff.hessian(model, **data, diagonal=True)), np.diag(matrix))


def test_derivatives_agree_with_central_differences():
    model, data = network(), {"x": X, "y": Y, "loss": "mse"}
    vector = random_vector(model, "weights")

    def of_weights(function):
        return difference(function, model, vector)

    gradient = autodiff.gradient(model, **data)
    model.compile(loss="mse")
    loss = of_weights(lambda: model.evaluate(X, Y, verbose=0))
    assert_close(flat(gradient) @ flat(vector), loss, rtol=OF_DIFFERENCES)
    product = autodiff.hessian_vector_product(model, vector=vector, **data)
    assert_close(
        flat(product), of_weights(lambda: autodiff.gradient(model, **data)), rtol=OF_DIFFERENCES
    )
    moves = autodiff.jacobian_vector_product(model, X, vector)
    assert_close(flat(moves), of_weights(lambda: model(X)), rtol=OF_DIFFERENCES)


@pytest.mark.parametrize("mode", CURVATURE_MODES)
@pytest.mark.parametrize(
    "norm",
    [
        keras.layers.BatchNormalization,
        keras.layers.LayerNormalization,
        lambda: keras.layers.GroupNormalization(2),
    ],
)
def test_second_derivatives_through_normalization(norm, mode):
    """In which TensorFlow's moments stop a gradient, without harm to first derivatives only."""
    dense = keras.layers.Dense(4, "tanh")
    model = keras.Sequential([keras.Input((3,)), dense, norm(), keras.layers.Dense(2)])
    data = {"x": X, "y": Y, "loss": "mse", "training": True}
    vector = random_vector(model, "weights")
    product = autodiff.hessian_vector_product(model, vector=vector, **data, mode=mode)
    change = difference(lambda: autodiff.gradient(model, **data), model, vector)
    assert_close(flat(product), change, rtol=OF_DIFFERENCES)


def test_gauss_newton_has_second_derivatives_of_penalties_through_normalization():
    """Of a loss of zero nothing else is left."""
    dense = keras.layers.Dense(4, "tanh")
    tail = [keras.layers.LayerNormalization(), keras.layers.Dense(2), SquarePenalty()]
    model = keras.Sequential([keras.Input((3,)), dense, *tail])
    data = {"x": X, "y": Y, "loss": lambda y, outputs: 0.0 * ops.mean(outputs, axis=-1)}
    vector = random_vector(model, "weights")
    product = autodiff.gauss_newton_vector_product(model, vector=vector, **data)
    change = difference(lambda: autodiff.gradient(model, **data), model, vector)
    assert_close(flat(product), change, rtol=OF_DIFFERENCES)


def test_chunks_and_batches_add_up():
    model = network()
    data = {"x": X, "y": Y, "loss": "mse", "sample_weight": WEIGHTS}
    vector = random_vector(model, "both")
    matrix = autodiff.hessian(model, **data)
    assert_close(autodiff.hessian(model, **data, chunk_size=5, batch_size=4), matrix)
    diagonal = autodiff.hessian(model, **data, chunk_size=7, batch_size=4, diagonal=True)
    assert_close(flat(diagonal), np.diag(matrix))
    data["wrt"] = "both"
    for function in (
        lambda **a: autodiff.gradient(model, **data, **a),
        lambda **a: autodiff.hessian_vector_product(model, vector=vector, **data, **a),
        lambda **a: autodiff.gauss_newton_vector_product(model, vector=vector, **data, **a),
    ):
        whole, in_batches = function(), function(batch_size=4)
        assert in_batches.inputs.shape == X.shape
        assert_close(flat(in_batches), flat(whole))


def test_gauss_newton_equals_the_hessian_of_a_linear_model():
    model = linear(2, kernel_regularizer="l2")
    for loss in ("mse", SOFTMAX):
        vector = random_vector(model, "weights")
        arguments = (model, X, CLASSES, vector)
        product = autodiff.gauss_newton_vector_product(*arguments, loss=loss)
        assert_close(flat(product), flat(autodiff.hessian_vector_product(*arguments, loss=loss)))


def test_gauss_newton_is_the_jacobian_squared():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh")])
    vector = random_vector(model, "weights")
    jacobian = np.concatenate(
        [np.reshape(part, (12, -1)) for part in autodiff.jacobian(model, X)], axis=1
    )
    product = autodiff.gauss_newton_vector_product(model, X, Y, vector, loss="mse")
    assert_close(flat(product), 2 / 12 * jacobian.T @ jacobian @ flat(vector))
    hessian = autodiff.hessian_vector_product(model, X, Y, vector, loss="mse")
    assert np.abs(flat(product) - flat(hessian)).max() > 1e-3  # of a model that is not linear


@needs_tensorflow
def test_gauss_newton_of_a_distribution():
    """Of a normal distribution with a fixed scale it is that of the squared error."""
    dense = keras.layers.Dense(2, "tanh")
    head = layers.DistributionLambda(_unit_normal)
    model = keras.Sequential([keras.Input((3,)), dense, head])
    vector = random_vector(model, "weights")
    nll = losses.NegativeLogLikelihood()
    product = autodiff.gauss_newton_vector_product(model, X, Y, vector, loss=nll)
    plain = keras.Sequential([keras.Input((3,)), dense])
    expected = autodiff.gauss_newton_vector_product(plain, X, Y, vector, loss="mse")
    assert_close(flat(product), flat(expected))  # a half of the sum over two columns


def _unit_normal(mean):
    import tensorflow_probability as tfp

    return tfp.distributions.Independent(tfp.distributions.Normal(mean, np.float64(1.0)), 1)


@pytest.mark.parametrize("training", [False, True])
def test_jacobians_by_both_modes_and_their_products(training):
    inputs = keras.Input((3,))
    hidden = keras.layers.Dropout(0.5, seed=1)(keras.layers.Dense(4, "tanh")(inputs))
    outputs = {name: keras.layers.Dense(n, name=name)(hidden) for name, n in (("a", 2), ("b", 1))}
    model = keras.Model(inputs, outputs)
    forward, reverse = (
        autodiff.jacobian(model, X, wrt="both", training=training, mode=mode, chunk_size=7)
        for mode in ("forward", "reverse")
    )
    assert_close(flat(forward), flat(reverse))
    assert reverse["a"].inputs.shape == (6, 2, 3)
    shapes = [tuple(part.shape) for part in reverse["b"].weights]
    assert shapes == [(6, 1, *variable.shape) for variable in model.trainable_variables]

    def matrix(name):
        of_weights = [np.reshape(part, (len(part), part.shape[1], -1)) for part in reverse[name][0]]
        return np.concatenate([*of_weights, reverse[name].inputs], axis=2)

    vector = random_vector(model, "both")
    rows = np.concatenate([np.tile(flat(vector.weights), (6, 1)), vector.inputs], axis=1)
    moves = autodiff.jacobian_vector_product(model, X, vector, wrt="both", training=training)
    cotangent = {name: RNG.normal(size=(6, n)) for name, n in (("a", 2), ("b", 1))}
    for name in "ab":
        assert_close(moves[name], np.einsum("nij,nj->ni", matrix(name), rows))
    back = autodiff.vector_jacobian_product(model, X, cotangent, wrt="both", training=training)
    rows = sum(np.einsum("nij,ni->nj", matrix(name), cotangent[name]) for name in "ab")
    assert_close(flat(back.weights), rows[:, :-3].sum(axis=0))
    assert_close(back.inputs, rows[:, -3:])
