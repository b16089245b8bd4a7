"""Laplace approximations and chains of models with loops, and of many outputs."""

import keras
import numpy as np
import pytest
from keras import ops
from precision import ON_JAX, needs_tensorflow
from probability import jacobians, tf, tfd

from keras_extras import inference
from keras_extras.inference.linearized_network import LinearizedNetwork
from keras_extras.inference.weight_function import WeightFunction

pytestmark = pytest.mark.both_backends(cases=0)

layers = keras.layers

X = np.random.default_rng(0).normal(size=(4, 3, 1)).astype("float32")
Y = np.random.default_rng(1).normal(size=(4, 2)).astype("float32")


def noise(outputs):
    return tfd.Independent(tfd.Normal(outputs, 0.5), 1)


def recurrent(layer):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((3, 1)), layers.Masking(), layer])


def test_laplace_approximation_of_a_recurrent_layer(caplog):
    model = recurrent(layers.GRU(2))
    laplace = inference.LaplaceApproximation(model, X, Y, likelihood=noise)
    state = [variable.value for variable in model.non_trainable_variables]
    parts = jacobians(
        lambda values: model.stateless_call(values, state, X)[0], model.trainable_variables
    )
    parts = [np.asarray(part) for part in parts]
    rows = parts[0].shape[0] * parts[0].shape[1]
    jacobian = np.concatenate([part.reshape(rows, -1) for part in parts], axis=1)
    precision = np.eye(jacobian.shape[1]) + jacobian.T @ jacobian / 0.5**2
    expected = np.sqrt(np.diag(np.linalg.inv(precision)))
    received = np.concatenate([np.ravel(part) for part in laplace.stddev()])
    np.testing.assert_allclose(received, expected, rtol=1e-4)
    messages = [r.getMessage() for r in caplog.records if r.name == "keras_extras"]
    assert ["one row after another" in message for message in messages] == [True] * (not ON_JAX)


def test_chains_of_a_recurrent_layer_by_default():
    model = recurrent(layers.SimpleRNN(2))
    posterior = inference.sample_posterior(
        model,
        X,
        Y,
        likelihood=noise,
        num_chains=2,
        num_results=25,
        num_burnin_steps=0,
        step_size=0.05,
        max_tree_depth=2,
        seed=0,
        verbose=0,
    )
    weights = [values[1, -1] for values in posterior.samples]
    assert not np.array_equal(weights[0], posterior.samples[0][0, -1])
    for variable, values in zip(model.trainable_variables, weights):
        variable.assign(values)
    expected = ops.sum(noise(model(X)).log_prob(Y))
    expected += sum(ops.sum(tfd.Normal(0.0, 1.0).log_prob(values)) for values in weights)
    np.testing.assert_allclose(posterior.sample_stats["lp"][1, -1], expected, rtol=1e-4)


@needs_tensorflow  # which has operations without XLA
def test_chains_do_without_xla_where_it_lacks_an_operation(caplog):
    class OnHost(layers.Layer):
        def call(self, x):
            zeros = tf.numpy_function(np.zeros_like, [tf.stop_gradient(x)], tf.float32)
            return x + tf.ensure_shape(zeros, x.shape)

    model = keras.Sequential([keras.Input((1,)), OnHost(), layers.Dense(2)])
    posterior = inference.sample_posterior(
        model,
        X[:, 0],
        Y,
        likelihood=noise,
        num_chains=1,
        num_results=10,
        num_burnin_steps=0,
        kernel="hmc",
        num_leapfrog_steps=1,
        step_size=0.05,
        verbose=0,
    )
    assert np.isfinite(posterior.samples[0]).all()
    (record,) = [r for r in caplog.records if r.name == "keras_extras"]
    assert "without XLA" in record.getMessage()


@needs_tensorflow  # whose graphs have countable operations
def test_what_is_compiled_does_not_grow_with_the_classes():
    def num_operations(classes):
        model = keras.Sequential([keras.Input((1,)), layers.Dense(classes)])
        function = WeightFunction(model, X[:, 0], lambda outputs: tfd.Categorical(logits=outputs))
        network = LinearizedNetwork(function, [0, 1])
        weights = [tf.convert_to_tensor(v) for v in model.trainable_variables]
        y = tf.zeros(4, "int32")
        traced = network.curvature.get_concrete_function(weights, X[:, 0], y)
        return len(traced.graph.get_operations())

    assert num_operations(3) == num_operations(30)
