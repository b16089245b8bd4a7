"""The object that layers of distributions return: a distribution and a tensor at once."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from precision import ON_JAX, WIDE
from probability import compiled, seed_of, tf, tfb, tfd
from scipy import stats

from keras_extras import layers
from keras_extras.layers import DistributionLambda

pytestmark = pytest.mark.both_backends(cases=1)


PARAMETERS = np.array([[0.5, 0.0], [-1.0, 2.0], [3.0, -1.0]], "float32")


def normal(t):
    return tfd.Normal(t[..., 0], ops.softplus(t[..., 1]))


def make(convert_to_tensor_fn="sample", **kwargs):
    return DistributionLambda(normal, convert_to_tensor_fn, **kwargs)(PARAMETERS)


def test_it_has_the_methods_of_the_distribution():
    actual, expected = make(), normal(PARAMETERS)
    assert isinstance(actual, tfd.Distribution)
    assert actual.batch_shape == (3,)
    assert actual.event_shape == ()
    assert actual.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    for name in ("mean", "mode", "stddev", "variance", "entropy", "batch_shape_tensor"):
        np.testing.assert_array_equal(getattr(actual, name)(), getattr(expected, name)())
    for name in ("log_prob", "prob", "cdf", "log_cdf", "survival_function"):
        np.testing.assert_array_equal(getattr(actual, name)(0.3), getattr(expected, name)(0.3))
    np.testing.assert_array_equal(actual.quantile(0.9), expected.quantile(0.9))
    np.testing.assert_array_equal(actual.loc, expected.loc)
    np.testing.assert_array_equal(actual.tensor_distribution[1].mean(), expected[1].mean())
    np.testing.assert_array_equal(actual.copy(loc=0.0).mean(), [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(
        actual.sample(4, seed=seed_of(1, 2)), expected.sample(4, seed=seed_of(1, 2))
    )


def test_tfp_uses_it_as_any_other_distribution():
    distribution, plain = make(), normal(PARAMETERS)
    other = tfd.Normal(0.0, 1.0)
    np.testing.assert_array_equal(
        tfd.kl_divergence(distribution, other), tfd.kl_divergence(plain, other)
    )
    np.testing.assert_array_equal(
        tfd.kl_divergence(other, distribution), tfd.kl_divergence(other, plain)
    )
    np.testing.assert_array_equal(tfd.kl_divergence(distribution, make()), [0.0, 0.0, 0.0])
    wrapped = tfd.Independent(distribution, 1)
    np.testing.assert_array_equal(wrapped.log_prob([0.0] * 3), np.sum(plain.log_prob(0.0)))
    assert wrapped.sample(2, seed=seed_of(1, 2)).shape == (2, 3)
    doubled = tfb.Scale(2.0)(distribution)
    np.testing.assert_allclose(doubled.log_prob(1.0), plain.log_prob(0.5) - np.log(2), rtol=1e-6)


def test_it_has_all_that_distributions_of_every_family_have():
    """A new version of TFP with another public method of `tfd.Distribution` fails here."""
    public = {name for name in vars(tfd.Distribution) if not name.startswith("_")}
    assert public <= set(vars(type(make())))


@pytest.mark.skipif(ON_JAX, reason="TFP's parameters on JAX are arrays, whose values stay")
def test_tfp_asks_it_where_another_holds_it():
    rate = tf.Variable(1.0)
    waiting = DistributionLambda(lambda _: tfd.Exponential(rate, validate_args=True), "mean")
    held = tfd.BatchBroadcast(waiting(PARAMETERS), [2], validate_args=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Sample must be non-negative"):
        held.log_prob(-1.0)
    rate.assign(-1.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`rate` must be positive"):
        held.mean()


@pytest.mark.parametrize(
    ("convert_to_tensor_fn", "expected"),
    [
        ("mean", PARAMETERS[:, 0]),
        (tfd.Distribution.mode, PARAMETERS[:, 0]),
        (tfd.Normal.loc, PARAMETERS[:, 0]),
        (lambda d: d.mean() + 2.0, PARAMETERS[:, 0] + 2.0),
        (lambda d: ops.stack([d.mean(), -d.mean()]), [PARAMETERS[:, 0], -PARAMETERS[:, 0]]),
    ],
    ids=["name", "method", "property", "function", "other shape"],
)
def test_convert_to_tensor_fn(convert_to_tensor_fn, expected):
    layer = DistributionLambda(normal, convert_to_tensor_fn)
    distribution = layer(PARAMETERS)
    assert ops.is_tensor(distribution)
    assert distribution.shape == np.shape(expected)
    assert distribution.ndim == np.ndim(expected)
    assert distribution.dtype == "float32"
    for value in (
        tf.convert_to_tensor(distribution),
        ops.convert_to_tensor(distribution),
        ops.abs(distribution) * np.sign(expected),
        tf.identity(distribution),
        compiled(lambda x: ops.convert_to_tensor(layer(x)))(PARAMETERS),
        distribution.numpy(),
        np.asarray(distribution),
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_operators_are_those_of_the_tensor():
    distribution = make("mean")
    mean = PARAMETERS[:, 0]
    np.testing.assert_array_equal(distribution + 1.0, mean + 1.0)
    np.testing.assert_array_equal(1.0 - distribution, 1.0 - mean)
    np.testing.assert_array_equal(np.ones(3, "float32") * distribution, mean)
    np.testing.assert_array_equal(ops.ones(3) / distribution, 1.0 / mean)
    np.testing.assert_array_equal(distribution * distribution, mean**2)
    np.testing.assert_array_equal(-distribution, -mean)
    np.testing.assert_array_equal(abs(distribution), abs(mean))
    np.testing.assert_array_equal(distribution > 0.0, mean > 0.0)
    np.testing.assert_array_equal(ops.cast(distribution, WIDE), mean.astype(WIDE))
    assert float(DistributionLambda(normal, "mean")(PARAMETERS[0])) == 0.5
    assert len({distribution, distribution}) == 1


def test_all_conversions_see_one_draw():
    distribution = make()
    draw = np.asarray(distribution)
    np.testing.assert_array_equal(ops.convert_to_tensor(distribution), draw)
    np.testing.assert_array_equal(distribution + 0.0, draw)
    assert not np.array_equal(distribution.sample(), draw)


def test_draws_follow_the_seed_of_the_layer():
    one, other = DistributionLambda(normal, seed=5), DistributionLambda(normal, seed=5)
    np.testing.assert_array_equal(np.asarray(one(PARAMETERS)), np.asarray(other(PARAMETERS)))
    np.testing.assert_array_equal(one(PARAMETERS).sample(4), other(PARAMETERS).sample(4))
    draw, log_prob = one(PARAMETERS).experimental_sample_and_log_prob(2)
    np.testing.assert_array_equal(log_prob, normal(PARAMETERS).log_prob(draw))
    assert not np.array_equal(np.asarray(one(PARAMETERS)), np.asarray(one(PARAMETERS)))

    draws = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        draws.append(np.asarray(make()))
    np.testing.assert_array_equal(*draws)


def test_draws_have_the_distribution():
    """The mean of n draws lies within 4 standard errors, its square sum in a chi-square's 4."""
    n = 10_000
    draws = make(seed=1).sample(n)
    expected = normal(PARAMETERS)
    z = np.asarray((draws - expected.mean()) / expected.stddev())
    assert np.abs(z.mean(axis=0)).max() < 4 / np.sqrt(n)
    assert np.abs((z**2).mean(axis=0) - 1).max() < 4 * np.sqrt(2 / n)


def test_integer_draws_become_tensors_of_floats():
    layer = DistributionLambda(lambda t: tfd.Categorical(logits=t), seed=1)
    distribution = layer(PARAMETERS)
    assert distribution.sample().dtype == "int32"
    assert distribution.dtype == ops.convert_to_tensor(distribution).dtype == "float32"
    np.testing.assert_array_equal(
        distribution.log_prob([0.0, 1.0, 0.0]), distribution.log_prob([0, 1, 0])
    )


def test_attributes_of_independent_entries_are_found():
    layer = DistributionLambda(lambda t: tfd.Independent(tfd.Bernoulli(logits=t), 1), "logits")
    np.testing.assert_array_equal(np.asarray(layer(PARAMETERS)), PARAMETERS)
    with pytest.raises(AttributeError, match="no_such"):
        layer(PARAMETERS).no_such  # noqa: B018


def _network():
    inputs = keras.Input((3,))
    outputs = layers.IndependentNormal(2, "mean")(keras.layers.Dense(4)(inputs))
    return inputs, outputs, keras.Model(inputs, outputs)


_ROWS = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")


def test_slices_are_those_of_the_tensor_everywhere():
    inputs, outputs, model = _network()
    mean = np.asarray(model(_ROWS).mean())
    distribution = model(_ROWS)
    np.testing.assert_array_equal(distribution[:, 0], mean[:, 0])
    np.testing.assert_array_equal(distribution[1], mean[1])
    np.testing.assert_array_equal(np.stack([np.asarray(row) for row in distribution]), mean)
    assert len(distribution) == 5
    with pytest.raises(ValueError, match="ambiguous"):
        bool(distribution)
    sliced = compiled(lambda x: model(x)[:, :1])(_ROWS)
    np.testing.assert_allclose(sliced, mean[:, :1], rtol=1e-6)
    for sliced in (outputs[:, :1], keras.layers.Lambda(lambda z: z[:, :1])(outputs)):
        functional = keras.Model(inputs, sliced)
        np.testing.assert_allclose(functional(_ROWS), mean[:, :1], rtol=1e-6)
        np.testing.assert_allclose(functional.predict(_ROWS, verbose=0), mean[:, :1], rtol=1e-6)


def test_distributions_are_stacked_in_graphs_and_distributed_over_time():
    _, _, model = _network()
    mean = np.asarray(model(_ROWS).mean())
    stacked = compiled(lambda x: ops.stack([model(x), model(x)]))(_ROWS)
    np.testing.assert_allclose(stacked, [mean, mean], rtol=1e-6)
    head = layers.IndependentNormal(2, "mean")
    over_time = keras.Sequential([keras.Input((6, 4)), keras.layers.TimeDistributed(head)])
    x = np.random.default_rng(1).normal(size=(2, 6, 4)).astype("float32")
    np.testing.assert_allclose(over_time.predict(x, verbose=0), x[..., :2], rtol=1e-6)


def test_survival_in_the_upper_tail_of_one_entry():
    """Beyond 8 standard deviations the distribution function rounds to 1 in single precision."""
    value = np.array([[1.0], [9.0], [12.0]], "float32")
    distribution = layers.IndependentNormal(1)(np.zeros((3, 2), "float32"))
    scale = float(distribution.stddev()[0, 0])
    expected = stats.norm.logsf(value[:, 0] / scale)
    np.testing.assert_allclose(distribution.log_survival_function(value), expected, rtol=1e-5)
    np.testing.assert_allclose(distribution.survival_function(value)[0], np.exp(expected[0]), 1e-5)
    vector = DistributionLambda(lambda t: tfd.Independent(tfd.MultivariateNormalDiag(t), 0))
    with pytest.raises(NotImplementedError):
        vector(np.zeros((3, 1), "float32")).log_survival_function(value)


def test_quantiles_and_modes():
    distribution = layers.MixtureNormal(2)(np.array([[0.0, 0.0, -1.0, 0.0, 3.0, 0.0]]))
    value = distribution.quantile(0.3)
    np.testing.assert_allclose(distribution.cdf(value), [0.3], rtol=1e-4)
    with pytest.raises(NotImplementedError, match=r"no mode in closed form. Take its `mean\(\)`"):
        distribution.mode()
    counts = layers.IndependentPoisson()(np.array([[np.log(2.5)]]))
    np.testing.assert_array_equal(counts.quantile(0.5), [2.0])
    np.testing.assert_array_equal(counts.mode(), [2.0])


WITHOUT_THE_TABLES = """
import jax
import jax.core
from jax.interpreters import xla

vars(xla).pop("canonicalize_dtype_handlers", None)
jax.core._deprecations.pop("pytype_aval_mappings", None)
assert not hasattr(jax.core, "pytype_aval_mappings")

from keras_extras import tfp

value, gradient = jax.jit(jax.value_and_grad(tfp.distributions.Normal(0.0, 1.0).log_prob))(1.0)
print(value, gradient)
variable = tfp.tf2jax.Variable(2.0)
print(jax.numpy.square(variable))
"""


@pytest.mark.skipif(not ON_JAX, reason="JAX lacks names that TFP asks for")
def test_tfp_is_imported_by_a_jax_without_its_tables():
    """The seam puts those back that JAX keeps elsewhere, and fails where that is gone."""
    output = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_TABLES], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    np.testing.assert_allclose(np.array(output.split(), float), [-1.4189385, -1.0, 4.0], rtol=1e-6)


@pytest.mark.skipif(not ON_JAX, reason="TensorFlow converts what its operations are given")
def test_layers_of_keras_get_arrays_on_jax():
    """Convolutions are of `jax.lax`, which takes no object that stands for an array."""
    given = []

    class Ours(keras.layers.Layer):
        def call(self, inputs):
            given.append(type(inputs).__name__)
            return inputs.mean()

    head = layers.IndependentNormal((4, 4, 1))
    draw = head(np.zeros((2, 32), "float32"))
    assert keras.layers.Conv2D(2, 3)(draw).shape == (2, 2, 2, 2)
    assert Ours()(draw).shape == (2, 4, 4, 1)
    assert given == ["TensorDistribution"]


@pytest.mark.skipif(not ON_JAX, reason="trees are JAX'")
@pytest.mark.parametrize(
    "head",
    [
        layers.IndependentNormal(2),
        layers.MixtureNormal(2, 2),
        layers.MultivariateNormalTriL(2),
        layers.ZeroInflated(layers.IndependentPoisson(2)),
        layers.OneHotCategorical(3),
    ],
    ids=lambda head: type(head).__name__,
)
def test_distributions_go_through_transformations_of_jax(head):
    import jax

    size = head.num_params or 2 * (1 + 2 * 2)
    t = np.random.default_rng(0).normal(size=(4, size)).astype("float32")
    through = jax.jit(lambda value: value)(head(t))
    draw = np.ones(through.shape, "float32")
    np.testing.assert_allclose(through.log_prob(draw), head(t).log_prob(draw), rtol=1e-5)
    traced = []

    @jax.jit
    def in_compiled(rv):
        traced.append(rv)
        return rv.log_prob(draw)

    for values in (t, t + 1.0):
        expected = head(values).log_prob(draw)
        np.testing.assert_allclose(in_compiled(head(values)), expected, rtol=1e-5)
    assert len(traced) == 1
