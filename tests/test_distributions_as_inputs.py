"""Inputs of layers of distributions: distributions, structures of them, tensors of unknown rank."""

import keras
import numpy as np
import pytest
from contract_support import saved_and_loaded
from precision import ON_JAX
from probability import tf, tfb, tfd

from keras_extras.layers import DistributionLambda, IndependentNormal, KLDivergenceAddLoss

pytestmark = pytest.mark.both_backends(cases=0)


X = np.random.default_rng(5).normal(size=(6, 2)).astype("float32")
LOC, SCALE = X[:, :1], np.log1p(np.exp(X[:, 1:]))


KNOWN_ON_JAX = pytest.mark.skipif(ON_JAX, reason="JAX knows the rank of every array")


def nll(y, rv_y):
    return -rv_y.log_prob(y)


@keras.saving.register_keras_serializable(__name__)
def widened(rv):
    """The distribution around the same mean, of thrice the standard deviation."""
    return tfd.Independent(tfd.Normal(rv.mean(), 3.0 * rv.stddev()), 1)


def chained(layer, kind="functional"):
    if kind == "functional":
        inputs = keras.Input((2,))
        return keras.Model(inputs, layer(IndependentNormal(1, "mean")(inputs)))
    built = [keras.Input((2,))] if kind == "sequential" else []
    return keras.Sequential([*built, IndependentNormal(1, "mean"), layer])


@pytest.mark.parametrize("kind", ["functional", "sequential", "unbuilt"])
def test_a_distribution(kind):
    model = chained(DistributionLambda(widened, "mean"), kind)
    model.compile(loss=nll)
    y = np.ones((6, 1), "float32")
    z = (y - LOC) / (3.0 * SCALE)
    expected = np.mean(0.5 * z**2 + np.log(3.0 * SCALE) + 0.5 * np.log(2 * np.pi))
    assert model.evaluate(X, y, verbose=0) == pytest.approx(float(expected), rel=1e-5)
    assert model.output_shape == (None, 1) or kind == "unbuilt"
    np.testing.assert_allclose(model.predict(X, verbose=0), LOC, rtol=1e-6)
    if kind == "functional":
        np.testing.assert_allclose(
            saved_and_loaded(keras.Model(model.input, model.output))(X).stddev(),
            3.0 * SCALE,
            rtol=1e-5,
        )


def test_three_in_a_row_and_one_that_adds_a_loss():
    inputs = keras.Input((2,))
    first = KLDivergenceAddLoss(tfd.Independent(tfd.Normal([0.0], 1.0), 1))(
        IndependentNormal(1, "mean")(inputs)
    )
    second = DistributionLambda(widened)(first)
    third = DistributionLambda(lambda rv: tfb.Exp()(rv), lambda rv: rv.sample())(second)
    model = keras.Model(inputs, third)
    y = np.exp(LOC)
    expected = tfd.LogNormal(LOC, 3.0 * SCALE).log_prob(y)[:, 0]
    np.testing.assert_allclose(model(X).log_prob(y), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", [list, dict])
def test_a_structure_that_holds_one(kind):
    def shifted(pair):
        rv, shift = pair.values() if kind is dict else pair
        return tfd.Independent(tfd.Normal(rv.mean() + shift, rv.stddev()), 1)

    inputs = keras.Input((2,))
    pair = [IndependentNormal(1)(inputs), keras.layers.Lambda(lambda x: x[:, 1:])(inputs)]
    pair = dict(zip("ab", pair)) if kind is dict else pair
    model = keras.Model(inputs, DistributionLambda(shifted)(pair))
    model.compile(loss=nll)
    np.testing.assert_allclose(model(X).mean(), X[:, :1] + X[:, 1:], rtol=1e-5)
    expected = np.mean(-tfd.Normal(X[:, :1] + X[:, 1:], SCALE).log_prob(LOC))
    assert model.evaluate(X, LOC, verbose=0) == pytest.approx(float(expected), rel=1e-5)


def test_its_tensor_as_a_parameter():
    """TFP would take the batch shape of the distribution for that of its tensor."""
    layer = DistributionLambda(lambda rv: tfd.Independent(tfd.Normal(rv, 1.0), 1), "mean")
    model = chained(layer)
    assert model(X).batch_shape == (6,)
    np.testing.assert_allclose(model.predict(X, verbose=0), LOC, rtol=1e-6)
    np.testing.assert_allclose(
        model(X).log_prob(LOC + 1.0), tfd.Normal(0.0, 1.0).log_prob(np.ones(6, "f")), rtol=1e-5
    )


def test_a_distribution_of_an_inner_model_says_what_to_do():
    inner = keras.Sequential([keras.Input((2,)), IndependentNormal(1)])
    inputs = keras.Input((2,))
    with pytest.raises(TypeError, match=r"(?s)where its function uses a distribution.*one by one"):
        DistributionLambda(widened)(inner(inputs))


class Squeezed(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = DistributionLambda(lambda t: tfd.Normal(t, 1.0), "mean")

    def call(self, inputs):
        return self.head(tf.squeeze(inputs[:, :1]))


@KNOWN_ON_JAX
@pytest.mark.parametrize("y", [LOC + 1.0, LOC[:, 0] + 1.0], ids=["column", "flat"])
def test_a_tensor_of_unknown_rank(y):
    inputs = keras.Input((2,))
    for squeeze in (keras.ops.squeeze, keras.layers.Lambda(tf.squeeze, output_shape=())):
        head = DistributionLambda(lambda t: tfd.Normal(t, 1.0), "mean")
        model = keras.Model(inputs, head(squeeze(inputs[:, :1])))
        model.compile(loss=nll)
        expected = 0.5 + 0.5 * np.log(2 * np.pi)
        assert model.evaluate(X, y, verbose=0) == pytest.approx(float(expected), rel=1e-5)
    model = Squeezed()
    model.compile(loss=nll)
    with pytest.raises(ValueError, match=r"needs inputs of a known rank.*axis=-1"):
        model.evaluate(X, y, verbose=0)
    model = Squeezed()
    model.compile(loss=nll)
    model(X)
    assert model.evaluate(X, y, verbose=0) == pytest.approx(float(expected), rel=1e-5)


class SqueezedBeforeAHead(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = IndependentNormal(1, "mean")

    def call(self, inputs):
        return self.head(tf.squeeze(inputs[..., None]))


@KNOWN_ON_JAX
def test_a_head_of_a_tensor_of_unknown_rank():
    model = SqueezedBeforeAHead()
    model(X)
    model.compile(loss=nll)
    expected = np.mean(-tfd.Normal(LOC, SCALE).log_prob(np.ones((6, 1), "float32")))
    value = model.evaluate(X, np.ones((6, 1), "float32"), verbose=0)
    assert value == pytest.approx(float(expected), rel=1e-5)
