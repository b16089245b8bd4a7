"""Targets meet distributions in the right shape or not at all, also with several replicas."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scripts import output_of

from keras_extras.layers import DistributionLambda, VariableLayer
from keras_extras.layers.distributions_in_fit import let_models_train_distributions
from keras_extras.losses import NegativeLogLikelihood

tfd = tfp.distributions


def nll(y, rv_y):
    return -rv_y.log_prob(y)


def model_of(draw_shape, event_rank, loss=nll):
    """A model of standard normals: each row a batch of `draw_shape`, of which a part is event."""

    def make(t):
        zeros = tf.zeros(tf.concat([tf.shape(t)[:1], draw_shape], 0)) + 0.0 * tf.reshape(
            t, [-1] + [1] * len(draw_shape)
        )
        return tfd.Independent(tfd.Normal(zeros, 1.0), event_rank)

    model = keras.Sequential([keras.Input((1,)), DistributionLambda(make, "mean")])
    model.compile(loss=loss)
    return model


X = np.zeros((6, 1), "float32")
POSSIBLE = [
    # shapes of a row's draw, rank of the event in it, shapes of a row's target
    ((), 0, ()),
    ((), 0, (1,)),
    ((1,), 0, ()),
    ((1,), 0, (1,)),
    ((1,), 1, ()),
    ((1,), 1, (1,)),
    ((4,), 0, (4,)),
    ((4,), 0, (4, 1)),
    ((4, 1), 1, (4,)),
    ((4, 1), 2, (4,)),
    ((4, 3), 1, (4, 3)),
    ((4, 3), 1, (4, 3, 1)),
]
IMPOSSIBLE = [
    ((), 0, (3,)),
    ((), 0, (6,)),
    ((), 0, (4, 1)),
    ((1,), 0, (3,)),
    ((1,), 1, (3,)),
    ((3,), 1, ()),
    ((3,), 1, (1,)),
    ((4,), 0, (3,)),
    ((4, 1), 1, (4, 2)),
]


def targets(shape):
    return np.random.default_rng(2).normal(size=(6, *shape)).astype("float32")


@pytest.mark.parametrize(("draw_shape", "event_rank", "target_shape"), POSSIBLE)
def test_possible_pairs(draw_shape, event_rank, target_shape):
    y = targets(target_shape)
    loss = model_of(draw_shape, event_rank).evaluate(X, y, verbose=0)
    entries_of_event = np.prod(draw_shape[len(draw_shape) - event_rank :])
    expected = np.mean(0.5 * y**2 + 0.5 * np.log(2 * np.pi)) * entries_of_event
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("outputs_in_list", [False, True])
@pytest.mark.parametrize("targets_in_list", [False, True])
def test_lists_of_one(outputs_in_list, targets_in_list):
    single = model_of((), 0)
    outputs = [single.outputs[0]] if outputs_in_list else single.outputs[0]
    model = keras.Model(single.inputs[0], outputs)
    model.compile(loss=[nll] if outputs_in_list else nll)
    y = targets((1,))
    expected = single.evaluate(X, y, verbose=0)
    loss = model.evaluate(X, [y] if targets_in_list else y, verbose=0)
    assert loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("draw_shape", "event_rank", "target_shape"), IMPOSSIBLE)
@pytest.mark.parametrize("run_eagerly", [False, True])
def test_impossible_pairs(draw_shape, event_rank, target_shape, run_eagerly):
    model = model_of(draw_shape, event_rank)
    model.run_eagerly = run_eagerly
    with pytest.raises(ValueError, match=r"cannot pair targets of shape .*Targets must have shape"):
        model.evaluate(X, targets(target_shape), batch_size=6, verbose=0)


@pytest.mark.parametrize("rows", [3, 4])
@pytest.mark.parametrize("loss", [nll, NegativeLogLikelihood()], ids=["function", "class"])
@pytest.mark.parametrize("known", [False, True])
def test_one_target_for_each_row_is_no_event(rows, loss, known):
    """Also with three rows, where targets of shape (3,) would pass for an event of three."""
    model = model_of((3,), 1, loss)
    data = tf.data.Dataset.from_tensor_slices((X[:rows], targets(())[:rows]))
    with pytest.raises(ValueError, match="cannot pair targets"):
        model.evaluate(data.batch(rows, drop_remainder=known), verbose=0)


def test_several_draws_of_a_latent_variable_share_the_target():
    def make(t):
        return tfd.Independent(tfd.Normal(tf.stack([t, t + 1.0, t - 1.0]), 1.0), 1)

    model = keras.Sequential([keras.Input((2,)), DistributionLambda(make, "mean")])
    model.compile(loss=nll)
    y = targets((2,))
    expected = np.mean([0.5 * (y - shift) ** 2 for shift in (0, 1, -1)]) * 2 + np.log(2 * np.pi)
    loss = model.evaluate(np.zeros((6, 2), "float32"), y, verbose=0)
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "loss"),
    [((), nll), ((2, 3), nll), ((1,), NegativeLogLikelihood()), ((2, 3), NegativeLogLikelihood())],
)
def test_one_distribution_of_all_rows(shape, loss):
    head = DistributionLambda(lambda t: tfd.Independent(tfd.Normal(t, 1.0), len(shape)))
    model = keras.Sequential([VariableLayer(shape), head])
    model.compile(keras.optimizers.SGD(0.2), loss)
    y = targets(shape) + 5.0
    model.fit(X, y, batch_size=6, epochs=60, verbose=0)
    np.testing.assert_allclose(model(X).mean(), y.mean(axis=0), rtol=1e-3)


def test_the_seam_is_installed_once_and_looks_like_the_original():
    before = keras.Model.compute_loss, keras.Model.compute_metrics
    DistributionLambda(tfd.Normal)
    let_models_train_distributions()
    assert before == (keras.Model.compute_loss, keras.Model.compute_metrics)
    for method in before:
        stock = inspect.unwrap(method)
        assert stock is not method
        assert inspect.signature(stock) == inspect.signature(method)


def test_canary_keras_calls_the_two_methods_with_distributions():
    """Fails when Keras' training does not pass through the methods that the seam wraps."""
    seen = {}

    class Probe(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            seen["loss"] = y_pred
            return super().compute_loss(x, y, y_pred, sample_weight, training)

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            seen["metrics"] = y_pred
            return super().compute_metrics(x, y, y_pred, sample_weight)

    head = DistributionLambda(lambda t: tfd.Normal(t[:, 0], 1.0))
    model = Probe([keras.Input((1,)), keras.layers.Dense(1), head])
    model.compile(loss=nll)
    for call in (model.fit, model.evaluate):
        seen.clear()
        call(X, targets((1,)), verbose=0)
        assert set(seen) == {"loss", "metrics"}
        assert all(isinstance(value, tfd.Distribution) for value in seen.values())


def test_models_without_distributions_are_left_alone():
    DistributionLambda(tfd.Normal)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(3)])
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    assert np.isfinite(model.evaluate(X, np.zeros((6, 1)), verbose=0)).all()


MIRRORED = """
import keras, numpy as np, tensorflow as tf, tensorflow_probability as tfp
import keras_extras
from keras_extras import metrics
tfd = tfp.distributions
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
nll = lambda y, rv_y: -rv_y.log_prob(y)
x = np.random.default_rng(1).normal(size=(64, 3)).astype("float32")
y = x[:, :1]

def train(strategy, built):
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = keras.Sequential(([keras.Input((3,))] if built else []) + [
            keras.layers.Dense(2, kernel_initializer="zeros"),
            keras_extras.layers.DistributionLambda(
                lambda t: tfd.Normal(t[..., 0], 1e-3 + tf.math.softplus(t[..., 1])), "mean"
            ),
        ])
        scores = ["mse", nll, metrics.NegativeLogLikelihood(), metrics.IntervalCoverage(0.5),
                  metrics.IntervalWidth(0.5), metrics.ContinuousRankedProbabilityScore()]
        model.compile(keras.optimizers.SGD(0.05), nll, metrics=scores)
    losses = model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0).history["loss"]
    return losses, model.evaluate(x, y, verbose=0), model.predict(x, verbose=0)

for built in (True, False):
    one = train(tf.distribute.get_strategy(), built)
    two = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), built)
    for a, b in zip(one, two):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
print("equal")
"""


@pytest.mark.slow
def test_two_replicas_train_as_one():
    assert "equal" in output_of(MIRRORED)
