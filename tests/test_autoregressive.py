"""Masked networks look back only; flows are distributions, and fit curved data."""

import keras
import numpy as np
import pytest
from contract_support import check_config, saved_and_loaded
from keras import ops
from precision import ON_JAX
from probability import tfb, tfd

from keras_extras import autodiff, layers, losses

pytestmark = pytest.mark.both_backends(cases=1)


@keras.saving.register_keras_serializable(__name__)
def standard_normal(t):
    return tfd.MultivariateNormalDiag(ops.zeros((*ops.shape(t)[:-1], 2)), [1.0, 1.0])


def flow_model(transforms=1, **keywords):
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((0,)), layers.DistributionLambda(standard_normal)])
    for number in range(transforms):
        order = ("left-to-right", "right-to-left")[number % 2]
        network = layers.AutoregressiveNetwork(
            2, hidden_units=[10], activation="relu", input_order=order
        )
        model.add(layers.AutoregressiveTransform(network, **keywords))
    return model


def curved(n):
    rng = np.random.default_rng(1)
    second = 2.0 * rng.normal(size=n)
    return np.stack([rng.normal(size=n) + second**2 / 4, second], 1).astype("float32")


@pytest.mark.parametrize("hidden_units", [(), (16,), (7, 9)])
@pytest.mark.parametrize("order", ["left-to-right", "right-to-left", [2, 4, 1, 3]])
def test_outputs_depend_on_earlier_inputs_only(hidden_units, order):
    network = layers.AutoregressiveNetwork(
        3, hidden_units=hidden_units, input_order=order, activation="tanh", bias_initializer="ones"
    )
    x = np.random.default_rng(0).normal(size=(1, 4)).astype("float32")
    outputs = network(x)
    jacobian = autodiff.jacobian(network, x, wrt="inputs")[0]  # outputs, parameters, inputs
    degrees = np.array(
        {"left-to-right": [1, 2, 3, 4], "right-to-left": [4, 3, 2, 1]}.get(str(order), order)
    )
    earlier = degrees[None] < degrees[:, None]
    reached = np.abs(jacobian).max(axis=1) > 0
    assert not reached[~earlier].any()
    assert reached[earlier].all()
    assert outputs.shape == (1, 4, 3)


@pytest.mark.skipif(ON_JAX, reason="TFP has no AutoregressiveNetwork on JAX")
@pytest.mark.filterwarnings("ignore")  # of tf_keras
def test_equals_the_network_of_tfp_on_the_same_weights():
    ours = layers.AutoregressiveNetwork(2, hidden_units=[6], activation="tanh")
    theirs = tfb.AutoregressiveNetwork(2, hidden_units=[6], activation="tanh")
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    ours(x), theirs(x)
    # Hidden degrees are put in order, which permutes units of the hidden layer at most.
    first, bias, second, last = (np.array(w) for w in theirs.get_weights())
    width = np.count_nonzero(first, axis=0)
    order = np.argsort(width, kind="stable")
    for variable, value in zip(
        ours.weights, (first[:, order], bias[order], second[order], last), strict=True
    ):
        variable.assign(value)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


def test_density_integrates_to_one_and_draws_follow_it():
    model = flow_model(2)
    rv = model(np.zeros((1, 0), "float32"))
    axis = np.linspace(-20, 20, 401, dtype="float32")
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    density = ops.convert_to_numpy(rv.prob(grid))
    assert density.sum() * 0.1**2 == pytest.approx(1.0, abs=1e-3)
    draws = ops.convert_to_numpy(rv.sample(4000))[:, 0]
    mean = (density[:, None] * grid).sum(axis=0) * 0.1**2
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=4 * draws.std(axis=0).max() / 60)


@pytest.mark.parametrize("jit_compile", ["auto"] if ON_JAX else [False, True])
def test_it_fits_curved_data(jit_compile):
    model = flow_model(convert_to_tensor_fn=lambda rv: ops.zeros_like(rv.distribution.mean()))
    model.compile(
        keras.optimizers.Adam(0.02), lambda y, rv_y: -rv_y.log_prob(y), jit_compile=jit_compile
    )
    y = curved(1000)
    nothing = np.zeros((1000, 0), "float32")
    losses_ = model.fit(nothing, y, batch_size=100, epochs=40, verbose=0).history["loss"]
    gaussian = tfd.MultivariateNormalFullCovariance(y.mean(axis=0), np.cov(y.T).astype("float32"))
    assert losses_[-1] < -float(ops.mean(gaussian.log_prob(y)))


def test_saving():
    check_config(layers.AutoregressiveTransform(layers.AutoregressiveNetwork(2, hidden_units=[3])))
    model = flow_model(2, seed=4)
    model.compile("sgd", losses.NegativeLogLikelihood())
    y = curved(20)
    nothing = np.zeros((20, 0), "float32")
    loaded = saved_and_loaded(model)
    np.testing.assert_allclose(loaded(nothing).log_prob(y), model(nothing).log_prob(y), rtol=1e-6)


def test_a_flow_after_a_named_head():
    model = keras.Sequential(
        [
            keras.layers.Dense(4),
            layers.MultivariateNormalDiag(2),
            layers.AutoregressiveTransform(layers.AutoregressiveNetwork(2, hidden_units=[8])),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05), losses.NegativeLogLikelihood())
    x = curved(64)
    values = model.fit(x, x, epochs=5, verbose=0).history["loss"]
    assert values[-1] < values[0]
    assert model.predict(x, verbose=0).shape == (64, 2)


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"`made` must have two parameters.*made.params=3"):
        layers.AutoregressiveTransform(layers.AutoregressiveNetwork(3))
    with pytest.raises(TypeError, match="`made` must be a Keras 3 layer"):
        layers.AutoregressiveTransform(lambda x: x)
    with pytest.raises(TypeError, match="must follow a layer of distributions"):
        layers.AutoregressiveTransform(layers.AutoregressiveNetwork(2))(np.zeros((3, 2), "float32"))
    with pytest.raises(ValueError, match="`input_order` must be a permutation of 1 to 3"):
        layers.AutoregressiveNetwork(2, input_order=[1, 2, 2])(np.zeros((1, 3), "float32"))
    with pytest.raises(ValueError, match="`input_order` must be one of"):
        layers.AutoregressiveNetwork(2, input_order="upwards")
    with pytest.raises(ValueError, match=r"`event_shape` entries.*event_shape=4"):
        layers.AutoregressiveNetwork(2, event_shape=4)(np.zeros((1, 3), "float32"))
    with pytest.raises(TypeError, match="`hidden_units` must be a list of integers"):
        layers.AutoregressiveNetwork(2, hidden_units=10)
