"""Which models, precisions and arguments derivatives take, and what they say of others."""

import keras
import numpy as np
import pytest
from derivative_cases import (
    CLASSES,
    OF_DIFFERENCES,
    ONES,
    RNG,
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
from precision import ON_JAX, needs_float64, needs_tensorflow, tf

from keras_extras import autodiff, layers, losses

pytestmark = [pytest.mark.both_backends, pytest.mark.usefixtures("float64")]


def test_several_inputs_and_an_embedding():
    words, numbers = keras.Input((2,), dtype="int32"), keras.Input((3,))
    features = keras.layers.Flatten()(keras.layers.Embedding(5, 2)(words))
    model = keras.Model(
        [words, numbers], keras.layers.Dense(2)(keras.layers.Concatenate()([features, numbers]))
    )
    x = [np.array([[0, 1], [4, 1], [2, 2], [0, 3], [1, 1], [3, 0]]), X]
    data = {"x": x, "y": Y, "loss": "mse"}
    vector = random_like(model.trainable_variables)
    assert autodiff.gradient(model, **data)[0].shape == (5, 2)
    product = autodiff.hessian_vector_product(model, vector=vector, **data)
    expected = difference(lambda: autodiff.gradient(model, **data), model, vector)
    assert_close(flat(product), expected, rtol=OF_DIFFERENCES)
    assert_close(
        flat(autodiff.jacobian(model, x, mode="forward")),
        flat(autodiff.jacobian(model, x, mode="reverse")),
    )
    with pytest.raises(ValueError, match=r"integers have no derivative.*inputs of dtype int"):
        autodiff.gradient(model, **data, wrt="inputs")


def test_a_layer_that_cannot_be_vectorized():
    class InPython(keras.layers.Layer):
        def call(self, inputs):
            return inputs**2 if bool(ops.all(inputs < 100.0)) else inputs

        def compute_output_shape(self, input_shape):
            return input_shape

    model = keras.Sequential([InPython(), keras.layers.Dense(1, use_bias=False)])
    model(X)
    hessian = autodiff.hessian(model, X, Y[:, :1], loss="mse", chunk_size=2)
    assert_close(hessian, 2 * (X**2).T @ X**2 / 6)


def test_a_layer_alone():
    layer = keras.layers.Dense(2, "tanh")
    jacobian = autodiff.jacobian(layer, X, wrt="inputs")
    slopes = 1 - np.asarray(layer(X)) ** 2
    assert_close(jacobian, np.einsum("no,io->noi", slopes, layer.kernel))
    in_model = keras.Sequential([keras.Input((3,)), layer])
    assert_close(
        flat(autodiff.gradient(layer, X, Y, loss="mse")),
        flat(autodiff.gradient(in_model, X, Y, loss="mse")),
    )
    with pytest.raises(ValueError, match=r"`loss` must be given: 'dense"):
        autodiff.gradient(layer, X, Y)


def test_in_a_compiled_function():
    model = network()
    model.compile(loss="mse")
    vector = random_vector(model, "weights")

    @compiled
    def product(vector):
        return autodiff.hessian_vector_product(model, X, Y, vector)

    expected = autodiff.hessian_vector_product(model, X, Y, vector)
    assert_close(flat(product(list(map(ops.convert_to_tensor, vector)))), flat(expected))
    with pytest.raises(ValueError, match=r"Inside a compiled function.*Received: loss='mse'"):
        compiled(lambda x: autodiff.gradient(model, x, Y, loss="mse"))(ops.convert_to_tensor(X))


def compiled(function):
    if ON_JAX:
        import jax

        return jax.jit(function)
    return tf.function(function, autograph=False)


@needs_float64
def test_float64_layers_where_float32_is_the_default():
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    dense = keras.layers.Dense(1, dtype="float64")
    model = keras.Sequential([keras.Input((3,), dtype="float64"), dense])
    for loss in ("mse", lambda y, p: ops.mean((y - p) ** 2, axis=-1)):
        hessian = autodiff.hessian(model, X, Y[:, :1], loss=loss)
        assert_close(hessian, 2 * ONES.T @ ONES / 6)
    assert keras.config.floatx() == "float32"


def test_float32_and_mixed_precision():
    keras.config.set_floatx("float32")
    for policy, rtol in (("float32", 1e-5), ("mixed_float16", 1e-2)):
        keras.config.set_dtype_policy(policy)
        model = linear(1)
        hessian = autodiff.hessian(model, X, Y[:, :1], loss="mse")
        assert_close(hessian, 2 * ONES.T @ ONES / 6, rtol)


def test_frozen_weights_are_left_out():
    model = network()
    model.layers[0].trainable = False
    gradient = autodiff.gradient(model, X, Y, loss="mse")
    assert [part.shape for part in gradient] == [(4, 2), (2,)]
    model.trainable = False
    with pytest.raises(ValueError, match=r"no trainable weights.*Received: wrt='weights'"):
        autodiff.gradient(model, X, Y, loss="mse")


class Rounding(keras.layers.Layer):
    def call(self, inputs):
        return ops.round(inputs)


def test_layers_without_a_gradient_are_named():
    model = linear(2)
    model.add(Rounding(name="rounding"))
    with pytest.raises(ValueError, match=r"no gradient.*/kernel.*Layers .*: rounding\."):
        autodiff.gradient(model, X, Y, loss="mse")
    model.add(keras.layers.Dense(2))
    with pytest.warns(UserWarning, match=r"dense/kernel.*: rounding\. It is taken as zero"):
        gradient = autodiff.gradient(model, X, Y, loss="mse")
    assert [bool(np.any(part)) for part in gradient] == [False, False, True, True]


def test_batches_need_a_loss_that_is_a_mean_over_rows():
    model = linear(1)
    for loss in (keras.losses.MeanSquaredError(reduction="sum"), losses.AUCLoss()):
        with pytest.raises(ValueError, match=r"`batch_size` needs a loss .*Received: batch_size=2"):
            autodiff.gradient(model, X, CLASSES[:, :1], loss=loss, batch_size=2)


@needs_tensorflow
def test_batches_need_a_known_number_of_rows():
    model, loss = linear(2), keras.losses.MeanSquaredError(dtype="float64")
    unknown = tf.TensorSpec((None, 3), "float64"), tf.TensorSpec((None, 2), "float64")

    def gradient(batch_size):
        def of_rows(x, y):
            return autodiff.gradient(model, x, y, loss=loss, batch_size=batch_size)

        return tf.function(of_rows, input_signature=unknown)(X, Y)

    np.testing.assert_allclose(gradient(None)[0], autodiff.gradient(model, X, Y, loss=loss)[0])
    with pytest.raises(ValueError, match=r"number of rows is known.*Received: batch_size=2"):
        gradient(2)


def test_batch_statistics_leave_rows_no_jacobian():
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(name="norm")])
    assert autodiff.jacobian(model, X, wrt="inputs").shape == (6, 3, 3)
    with pytest.raises(ValueError, match=r"depend on each other through .*norm/moving_mean"):
        autodiff.jacobian(model, X, wrt="inputs", training=True)


def test_outputs_that_do_not_fit():
    variable = keras.Sequential([keras.Input((3,)), layers.VariableLayer(2)])
    with pytest.raises(ValueError, match=r"as many rows as `x`, which has 6.*shape \(2,\)"):
        autodiff.jacobian(variable, X)


@needs_tensorflow
def test_distributions_of_several_tensors_do_not_fit():
    made = layers.AutoregressiveNetwork(2, hidden_units=[4], activation="tanh")
    flow = keras.Sequential(
        [layers.MultivariateNormalDiag(2), layers.AutoregressiveTransform(made)]
    )
    x, nll = RNG.normal(size=(2, 4)), losses.NegativeLogLikelihood()
    flow(x)
    vector = random_like(flow.trainable_variables)
    with pytest.raises(ValueError, match=r"distributions made of one tensor"):
        autodiff.gauss_newton_vector_product(flow, x, Y[:2], vector, loss=nll)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "dense"}, TypeError, r"`model` must be a Keras model.*'dense'"),
        ({"loss": None}, ValueError, r"`loss` must be given.*Received: loss=None"),
        ({"y": None}, ValueError, r"`y` must be given.*Received: y=None"),
        ({"y": Y[:4]}, ValueError, r"must have rows.*'x': \[6\], 'y': \[4\]"),
        ({"x": X[:0], "y": Y[:0]}, ValueError, "must have rows"),
        ({"x": object()}, TypeError, "must be arrays .*a value of type object"),
        ({"x": None}, ValueError, r"`x` must be an array.*None"),
        ({"wrt": "bias"}, ValueError, r"`wrt` must be one of .*wrt='bias'"),
        ({"batch_size": 0}, ValueError, r"`batch_size` must be at least 1"),
    ],
)
def test_bad_arguments(arguments, error, message):
    good = {"model": linear(2), "x": X, "y": Y, "loss": "mse"}
    with pytest.raises(error, match=message):
        autodiff.gradient(**{**good, **arguments})


def test_vectors_and_options_that_do_not_fit():
    model, data = linear(2), {"x": X, "y": Y, "loss": "mse"}
    with pytest.raises(ValueError, match=r"2 arrays, one for each of .*kernel.*Received: 1"):
        autodiff.hessian_vector_product(model, vector=[np.ones((3, 2))], **data)
    with pytest.raises(ValueError, match=r"shape \(3, 2\) for .*kernel. Received: shape \(2, 3\)"):
        autodiff.gauss_newton_vector_product(model, vector=[np.ones((2, 3)), np.ones(2)], **data)
    with pytest.raises(ValueError, match=r"shape \(6, 2\) for output 0"):
        autodiff.vector_jacobian_product(model, X, np.ones((6, 1)))
    with pytest.raises(ValueError, match=r"`mode` must be one of .*mode='reverse'"):
        autodiff.hessian(model, **data, mode="reverse")
    with pytest.raises(ValueError, match=r"`mode` must be one of .*mode='both'"):
        autodiff.jacobian(model, X, mode="both")
    with pytest.raises(ValueError, match=r"`batch_size` needs wrt='weights'.*wrt='both'"):
        autodiff.hessian(model, **data, wrt="both", batch_size=2)
