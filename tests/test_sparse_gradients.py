"""Gradients of an Embedding, lists of rows on TensorFlow, count as the dense ones that they are."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_extras import autodiff, inference, layers, unrolled
from keras_extras._core.probability import tfd
from keras_extras.optimizers import (
    SGLD,
    CyclicalSGLD,
    HypergradientAdam,
    HypergradientSGD,
    LevenbergMarquardt,
    LossEvaluatingOptimizer,
    MonteCarloOptimizer,
    NewtonCG,
    PartitionedOptimizer,
)

IDS = np.array([[0, 0], [1, 2], [0, 3]])  # Row 0 three times, rows 4 and 5 never.
Y = np.array([[1.0], [2.0], [-1.0]], "float32")


class OneHotEmbedding(keras.layers.Layer):
    """The same as `keras.layers.Embedding`, by a product whose gradient is dense."""

    def build(self, input_shape):
        self.embeddings = self.add_weight(shape=(6, 2), name="embeddings")

    def call(self, ids):
        return ops.matmul(ops.one_hot(ids, 6), self.embeddings)


def make_model(embedding):
    model = keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            embedding,
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=v.shape) for v in model.weights])
    return model


OPTIMIZERS = {
    "sgd": lambda: HypergradientSGD(0.1, hypergradient_learning_rate=0.01),
    "sgd_multiplicative": lambda: HypergradientSGD(
        0.1, hypergradient_learning_rate=0.1, rule="multiplicative"
    ),
    "sgd_clipnorm": lambda: HypergradientSGD(0.1, hypergradient_learning_rate=0.01, clipnorm=0.5),
    "sgd_clipvalue": lambda: HypergradientSGD(0.1, hypergradient_learning_rate=0.01, clipvalue=0.5),
    "adam": lambda: HypergradientAdam(0.1, hypergradient_learning_rate=0.001),
    "sgld": lambda: SGLD(0.01, prior_stddev=1.0, global_clipnorm=0.5, seed=1),
    "sgld_accumulated": lambda: SGLD(0.01, clipnorm=0.5, gradient_accumulation_steps=2, seed=1),
    "cyclical_sgld": lambda: CyclicalSGLD(0.01, 10, thinning_steps=1, clipnorm=0.5, seed=1),
    "newton_cg": lambda: NewtonCG(iterations_per_batch=2),
    "levenberg_marquardt": lambda: LevenbergMarquardt(iterations_per_batch=2),
    "partitioned": lambda: PartitionedOptimizer(
        {
            "*/embeddings": keras.optimizers.Adam(0.1, clipnorm=0.5),
            "*/bias": MonteCarloOptimizer(0.1, 4, seed=1),
            "*": HypergradientSGD(0.1, hypergradient_learning_rate=0.01),
        }
    ),
}


def trained(embedding, optimizer):
    model = make_model(embedding)
    model.compile(optimizer, "mse", run_eagerly=not isinstance(optimizer, LossEvaluatingOptimizer))
    model.fit(IDS, Y, batch_size=3, epochs=3, shuffle=False, verbose=0)
    rates = [optimizer.learning_rate] if hasattr(optimizer, "rule") else []
    return [*model.get_weights(), *map(np.array, rates)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name, request):
    if name == "newton_cg":  # Conjugate gradients in single precision amplify its rounding.
        request.getfixturevalue("float64")
    sparse = trained(keras.layers.Embedding(6, 2), OPTIMIZERS[name]())
    dense = trained(OneHotEmbedding(), OPTIMIZERS[name]())
    for ours, expected in zip(sparse, dense, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-5)


def test_the_rate_of_two_steps_is_that_of_the_paper():
    """The rate after two steps: 0.1 + b (g_1 . g_0), with rows that stand several times summed."""
    w = keras.Variable(np.ones((4, 1), "float32"))
    optimizer = HypergradientSGD(0.1, hypergradient_learning_rate=0.5)
    gradients = []
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(w.value, [0, 0, 2]) ** 2)
        (gradient,) = tape.gradient(loss, [w.value])
        assert isinstance(gradient, tf.IndexedSlices)
        gradients.append(np.array([4.0, 0.0, 2.0, 0.0]) * w.numpy()[:, 0])
        optimizer.apply([gradient], [w])
    expected = 0.1 + 0.5 * gradients[0] @ gradients[1]
    np.testing.assert_allclose(float(optimizer.learning_rate), expected, rtol=1e-5)


def derivatives(embedding):
    model = make_model(embedding)
    weights = model.trainable_variables
    vector = [np.full(v.shape, i + 1.0, "float32") for i, v in enumerate(weights)]
    yield autodiff.gradient(model, IDS, Y, loss="mse")
    yield autodiff.hessian(model, IDS, Y, loss="mse")
    yield autodiff.hessian_vector_product(model, IDS, Y, vector, loss="mse")
    yield autodiff.gauss_newton_vector_product(model, IDS, Y, vector, loss="mse")
    yield autodiff.jacobian(model, IDS)
    yield autodiff.vector_jacobian_product(model, IDS, np.ones((3, 1), "float32"))
    yield autodiff.jacobian_vector_product(model, IDS, vector)
    training = unrolled.UnrolledTraining(
        model, keras.optimizers.Adam(0.1), "mse", 3, {"learning_rate": 0.1}, None, jit_compile=False
    )
    yield training.hypergradient(IDS, Y, (IDS, Y))
    posterior = inference.LaplaceApproximation(
        model, IDS, Y, likelihood=lambda mean: tfd.Independent(tfd.Normal(mean, 0.5), 1)
    )
    yield posterior.stddev()


def test_derivatives():
    pairs = zip(derivatives(keras.layers.Embedding(6, 2)), derivatives(OneHotEmbedding()))
    for sparse, dense in pairs:
        leaves = zip(keras.tree.flatten(sparse), keras.tree.flatten(dense), strict=True)
        for ours, expected in leaves:
            np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-5)


def test_a_penalty_on_inputs_that_are_gathered():
    class Gathered(keras.layers.Layer):
        def call(self, x):
            rows = ops.arange(ops.shape(x)[0])
            return ops.sum(ops.take(x, rows, axis=0) ** 2, axis=-1, keepdims=True)

    layer = layers.GradientPenalty(Gathered(), weight=1.0)
    layer(np.array([[1.0, 2.0], [0.0, 1.0]], "float32"))
    np.testing.assert_allclose(layer.losses[0], (20.0 + 4.0) / 2, rtol=1e-5)
