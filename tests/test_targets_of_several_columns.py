"""Targets that hold more than the value: censored times, known errors, exposures."""

import keras
import numpy as np
import pytest
from keras import ops
from probability import compiled, tfd
from scipy import stats
from tiers import quick

from keras_extras.layers import DistributionLambda, IndependentNormal, IndependentPoisson

pytestmark = pytest.mark.both_backends(cases=0)


GENERATOR = np.random.default_rng(8)
X = GENERATOR.normal(size=(40, 1)).astype("float32")
TIME = np.exp(0.5 * X[:, 0] + GENERATOR.normal(size=40)).astype("float32")
EVENT = (GENERATOR.uniform(size=40) < 0.6).astype("float32")
Y = np.stack([TIME, EVENT], axis=1)
WAYS = [{}, {"run_eagerly": True}, {"jit_compile": True}]


def log_normal(t):
    """A batch of shape (n,)."""
    return tfd.LogNormal(t[:, 0], 1e-3 + ops.softplus(t[:, 1]))


def log_normal_vector(t):
    """A batch of shape (n,) of events of shape (1,)."""
    return tfd.Independent(tfd.LogNormal(t[:, :1], 1e-3 + ops.softplus(t[:, 1:])), 1)


def weibull(t):
    return tfd.Weibull(1e-3 + ops.softplus(t[:, 0]), ops.exp(t[:, 1]))


def censored(y, rv):
    time, event = y[:, 0], y[:, 1]
    return -(event * rv.log_prob(time) + (1.0 - event) * rv.log_survival_function(time))


def censored_weibull(y, rv):
    time, event = y[:, 0], y[:, 1]
    z = time / rv.scale
    log_hazard = ops.log(rv.concentration / rv.scale * z ** (rv.concentration - 1.0))
    return z**rv.concentration - event * log_hazard


def fitted(make, loss, way):
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(2), DistributionLambda(make, "mean")]
    )
    model.compile(keras.optimizers.Adam(0.1), loss, metrics=[loss], **way)
    losses = model.fit(X, Y, epochs=8, batch_size=40, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    return model, np.asarray(model.layers[0](X))


@pytest.mark.parametrize("way", quick(WAYS, {}), ids=str)
@pytest.mark.parametrize("make", [log_normal, log_normal_vector])
def test_censored_times_of_a_log_normal(make, way):
    model, t = fitted(make, censored, way)
    scale = 1e-3 + np.log1p(np.exp(t[:, 1]))
    known = stats.lognorm(scale, scale=np.exp(t[:, 0]))
    expected = -np.mean(EVENT * known.logpdf(TIME) + (1 - EVENT) * known.logsf(TIME))
    np.testing.assert_allclose(model.evaluate(X, Y, verbose=0), [expected, expected], rtol=1e-4)


@pytest.mark.parametrize("way", quick(WAYS, {}), ids=str)
def test_censored_times_of_a_weibull(way):
    model, t = fitted(weibull, censored_weibull, way)
    known = stats.weibull_min(1e-3 + np.log1p(np.exp(t[:, 0])), scale=np.exp(t[:, 1]))
    expected = -np.mean(EVENT * known.logpdf(TIME) + (1 - EVENT) * known.logsf(TIME))
    np.testing.assert_allclose(model.evaluate(X, Y, verbose=0), [expected, expected], rtol=1e-4)


def test_the_rate_that_is_found_is_that_of_the_censored_likelihood():
    """Of exponential times its maximum is the number of events over the sum of the times."""
    times = GENERATOR.exponential(2.0, size=400).astype("float32")
    y = np.stack([np.minimum(times, 1.5), times < 1.5], axis=1).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(1),
            DistributionLambda(lambda t: tfd.Exponential(ops.exp(t[:, 0])), "mean"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.1), censored)
    x = np.zeros((400, 1), "float32")
    model.fit(x, y, batch_size=400, epochs=60, verbose=0)
    expected = y[:, 1].sum() / y[:, 0].sum()
    np.testing.assert_allclose(model(x[:1]).rate, [expected], rtol=0.02)


def test_known_errors_and_exposures():
    error = np.full((40, 1), 0.5, "float32")

    def with_error(y, rv):
        scale = ops.sqrt(rv.variance() + y[:, 1:] ** 2)
        return -tfd.Normal(rv.mean(), scale).log_prob(y[:, :1])[:, 0]

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2), IndependentNormal(1)])
    model.compile("sgd", with_error)
    y = np.concatenate([X, error], axis=1)
    scale = np.sqrt(model(X).variance() + error**2)
    expected = -np.mean(stats.norm(model(X).mean(), scale).logpdf(X))
    assert model.evaluate(X, y, verbose=0) == pytest.approx(float(expected), rel=1e-5)

    def with_exposure(y, rv):
        return -tfd.Poisson(y[:, 1:] * rv.mean()).log_prob(y[:, :1])

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1), IndependentPoisson(1)])
    model.compile("sgd", with_exposure, metrics=[with_exposure])
    y = np.stack([GENERATOR.poisson(3.0, 40), GENERATOR.integers(1, 5, 40)], axis=1)
    rate = y[:, 1] * np.asarray(model(X).mean())[:, 0]
    expected = -np.mean(stats.poisson(rate).logpmf(y[:, 0]))
    np.testing.assert_allclose(model.evaluate(X, y, verbose=0), [expected] * 2, rtol=1e-5)


@pytest.mark.both_backends
def test_a_compiled_function_of_such_a_prediction():
    squared_mean = compiled(lambda prediction: ops.square(ops.convert_to_tensor(prediction)))

    def loss(y, rv):
        return -rv.log_prob(y[:, :1]) + y[:, 1] * squared_mean(rv)[:, 0]

    head = IndependentNormal(1, convert_to_tensor_fn="mean")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2), head])
    model.compile("sgd", loss)
    mean, scale = np.asarray(model(X).mean()), np.asarray(model(X).stddev())
    expected = np.mean(EVENT * mean[:, 0] ** 2 - stats.norm(mean, scale).logpdf(Y[:, :1])[:, 0])
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("head", [log_normal, log_normal_vector])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda y, rv: -rv.log_prob(y),
        lambda y, rv: -rv.log_survival_function(y),
        lambda y, rv: -rv.log_prob(ops.stack([y[:, 0], y[:, 0]], axis=1)),
    ],
)
def test_what_would_be_broadcast_is_refused(head, wrong, run_eagerly):
    for arguments in ({"loss": wrong}, {"loss": censored, "metrics": [wrong]}):
        model = keras.Sequential([keras.Input((2,)), DistributionLambda(head, "mean")])
        model.compile(**arguments, run_eagerly=run_eagerly)
        with pytest.raises(ValueError, match="cannot pair targets"):
            model.evaluate(np.repeat(X, 2, axis=1), Y, verbose=0)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_columns_and_densities_of_different_shapes_are_refused(run_eagerly):
    """Their product would have a number for each pair of rows."""

    def flat_batch(t):
        return tfd.Normal(t[:, 0], 1.0)

    def column_batch(t):
        return tfd.Normal(t[:, :1], 1.0)

    for make, right, wrong in (
        (flat_batch, lambda y: y[:, 1], lambda y: y[:, 1:]),
        (column_batch, lambda y: y[:, 1:], lambda y: y[:, 1]),
    ):
        model = keras.Sequential([keras.Input((1,)), DistributionLambda(make, "mean")])
        model.compile(
            loss=lambda y, rv, column=right: -column(y) * rv.log_prob(y[:, 0]),
            run_eagerly=run_eagerly,
        )
        expected = np.mean(EVENT * (0.5 * (TIME - X[:, 0]) ** 2 + 0.5 * np.log(2 * np.pi)))
        assert model.evaluate(X, Y, verbose=0) == pytest.approx(float(expected), rel=1e-5)
        model.compile(
            loss=lambda y, rv, column=wrong: -column(y) * rv.log_prob(y[:, 0]),
            run_eagerly=run_eagerly,
        )
        with pytest.raises(ValueError, match="one number for each row"):
            model.evaluate(X, Y, verbose=0)


def test_several_outputs():
    inputs = keras.Input((1,))
    parameters = keras.layers.Dense(2)(inputs)
    outputs = {
        "time": DistributionLambda(log_normal, "mean", name="time")(parameters),
        "size": IndependentNormal(1, name="size")(keras.layers.Dense(2)(inputs)),
    }
    model = keras.Model(inputs, outputs)
    model.compile(loss={"time": censored, "size": lambda y, rv: -rv.log_prob(y)})
    values = model.evaluate(X, {"time": Y, "size": X}, batch_size=40, verbose=0, return_dict=True)
    rv = model(X)["time"]
    survival = rv.log_survival_function(TIME)
    expected = -np.mean(EVENT * rv.log_prob(TIME) + (1 - EVENT) * survival)
    assert values["time_loss"] == pytest.approx(float(expected), rel=1e-5)
