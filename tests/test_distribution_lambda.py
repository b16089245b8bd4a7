"""Models with distributions in stock Keras: training, shapes, precision, saving, bad input."""

import keras
import keras_tuner
import numpy as np
import pytest
from contract_support import policy, saved_and_loaded
from keras import ops
from precision import ON_JAX
from probability import compiled, tf, tfd
from tiers import quick

from keras_extras import layers, losses
from keras_extras._core.differentiation import value_and_gradients
from keras_extras.layers import DistributionLambda
from keras_extras.optimizers import MonteCarloOptimizer

pytestmark = pytest.mark.both_backends(cases=1)


GENERATOR = np.random.default_rng(1)
X = GENERATOR.normal(size=(64, 3)).astype("float32")
Y = X[:, 0] + 0.1 * GENERATOR.normal(size=64).astype("float32")


def nll(y, rv_y):
    return -rv_y.log_prob(y)


def flat_normal(t):
    """A batch of shape (n,)."""
    return tfd.Normal(t[..., 0], 1e-3 + ops.softplus(t[..., 1]))


def column_normal(t):
    """A batch of shape (n, 1)."""
    return tfd.Normal(t[..., :1], 1e-3 + ops.softplus(t[..., 1:]))


@keras.saving.register_keras_serializable(__name__)
def event_normal(t):
    """A batch of shape (n,) of events of shape (1,)."""
    return tfd.Independent(column_normal(t), 1)


def make_model(distribution=flat_normal, seed=7, **kwargs):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2), DistributionLambda(distribution, **kwargs)]
    )


WAYS = [{}, {"steps_per_execution": 3}]
if not ON_JAX:  # It compiles all the same there, and is slow to run eagerly.
    WAYS += [{"jit_compile": True}, {"run_eagerly": True}]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(
    "distribution", quick([flat_normal, column_normal, event_normal], column_normal)
)
def test_training_equals_the_loss_written_by_hand(way, distribution):
    def by_hand(y, outputs):
        scale = 1e-3 + keras.ops.softplus(outputs[:, 1:])
        z = (y - outputs[:, :1]) / scale
        return 0.5 * z**2 + keras.ops.log(scale) + 0.5 * np.log(2 * np.pi)

    twin = keras.Sequential(make_model().layers[:1])
    twin.compile(keras.optimizers.SGD(0.01), by_hand)
    expected = twin.fit(X, Y[:, None], batch_size=20, epochs=2, shuffle=False, verbose=0)

    for y in (Y, Y[:, None]):
        model = make_model(distribution)
        model.compile(keras.optimizers.SGD(0.01), nll, metrics=["mse", "mae", nll], **way)
        history = model.fit(X, y, batch_size=20, epochs=2, shuffle=False, verbose=0).history
        np.testing.assert_allclose(history["loss"], expected.history["loss"], rtol=1e-5)
        np.testing.assert_allclose(history["nll"], expected.history["loss"], rtol=1e-5)
        loss, mse, _, metric = model.evaluate(X, y, verbose=0)
        assert loss == pytest.approx(twin.evaluate(X, Y[:, None], verbose=0), rel=1e-5)
        assert metric == pytest.approx(loss, rel=1e-6)
        # The error of a draw is that of the mean plus the variance.
        at_x = model(X)
        expected_mse = np.mean((np.ravel(at_x.mean()) - Y) ** 2 + np.ravel(at_x.variance()))
        assert mse == pytest.approx(expected_mse, rel=0.6)
        assert model.predict(X, verbose=0).shape == at_x.shape
        assert np.isfinite(model.train_on_batch(X[:8], y[:8])).all()


def test_sample_weights():
    model = make_model(column_normal)
    model.compile("sgd", nll, weighted_metrics=[nll])
    kept = np.arange(64) % 2
    loss, metric = model.evaluate(X, Y, sample_weight=kept.astype("float32"), verbose=0)
    rows = -np.asarray(model(X).log_prob(Y[:, None]))[:, 0]
    assert loss == pytest.approx(np.sum(rows * kept) / 64, rel=1e-5)
    assert metric == pytest.approx(np.mean(rows[1::2]), rel=1e-5)


def test_metrics_of_tensors_see_the_chosen_tensor():
    model = make_model(column_normal, convert_to_tensor_fn="mean")
    model.compile("sgd", nll, metrics=["mse"])
    expected = np.mean((model(X).mean()[:, 0] - Y) ** 2)
    assert model.evaluate(X, Y, verbose=0)[1] == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(model.predict(X, verbose=0), model(X).mean(), rtol=1e-5)


@pytest.mark.parametrize("shape", [(64,), (64, 1)])
def test_integer_labels(shape):
    model = keras.Sequential(
        [keras.layers.Dense(3), DistributionLambda(lambda t: tfd.Categorical(logits=t), "logits")]
    )
    labels = (X[:, 0] > 0).astype("int64").reshape(shape)
    model.compile(keras.optimizers.Adam(0.1), nll, metrics=["sparse_categorical_accuracy"])
    history = model.fit(X, labels, batch_size=16, epochs=10, verbose=0).history
    assert history["sparse_categorical_accuracy"][-1] > 0.9
    expected = keras.losses.sparse_categorical_crossentropy(
        labels.ravel(), model(X).logits, from_logits=True
    )
    assert model.evaluate(X, labels, verbose=0)[0] == pytest.approx(
        float(np.mean(expected)), rel=1e-5
    )


def test_stock_losses_of_tensors_stay_possible():
    head = DistributionLambda(lambda t: tfd.OneHotCategorical(probs=t), "mean")
    model = keras.Sequential([keras.layers.Dense(3, activation="softmax"), head])
    labels = (X[:, 0] > 0).astype("int64")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    losses = keras.losses.sparse_categorical_crossentropy(labels, model(X).mean())
    assert model.evaluate(X, labels, verbose=0)[0] == pytest.approx(
        float(np.mean(losses)), rel=1e-5
    )


def test_several_outputs():
    inputs = keras.Input((3,))
    flat = DistributionLambda(flat_normal, name="flat")(keras.layers.Dense(2)(inputs))
    column = DistributionLambda(column_normal, name="column")(keras.layers.Dense(2)(inputs))
    plain = keras.layers.Dense(1, name="plain")(inputs)
    y = Y[:, None]

    as_list = keras.Model(inputs, [flat, column, plain])
    as_list.compile("sgd", [nll, nll, "mse"], metrics=[["mse"], [nll], ["mae"]])
    values = as_list.evaluate(X, [y, Y, Y], verbose=0, return_dict=True)
    at_x = as_list(X)
    assert values["flat_loss"] == pytest.approx(-float(np.mean(at_x[0].log_prob(Y))), rel=1e-5)
    assert values["column_nll"] == pytest.approx(-float(np.mean(at_x[1].log_prob(y))), rel=1e-5)
    assert values["plain_loss"] == pytest.approx(float(np.mean((at_x[2] - y) ** 2)), rel=1e-5)

    as_dict = keras.Model(inputs, {"flat": flat, "column": column})
    as_dict.compile("sgd", {"flat": nll, "column": nll})
    again = as_dict.evaluate(X, {"flat": y, "column": Y}, verbose=0, return_dict=True)
    assert again["flat_loss"] == pytest.approx(values["flat_loss"], rel=1e-5)
    assert again["column_loss"] == pytest.approx(values["column_loss"], rel=1e-5)

    as_list.compile("sgd", {"flat": nll, "column": nll, "plain": "mse"})
    targets = {"flat": y, "column": Y, "plain": Y}
    again = as_list.evaluate(X, targets, verbose=0, return_dict=True)
    assert again["flat_loss"] == pytest.approx(values["flat_loss"], rel=1e-5)
    losses = as_list.fit(X, targets, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", [list, dict])
def test_several_inputs(kind):
    def make(inputs):
        loc, raw_scale = inputs.values() if kind is dict else inputs
        return tfd.Normal(loc[..., 0], 1e-3 + ops.softplus(raw_scale[..., 0]))

    layer = DistributionLambda(make, "mean")
    pair = [keras.Input((1,), name=name) for name in "ab"]
    pair = dict(zip("ab", pair)) if kind is dict else pair
    model = keras.Model(pair, layer(pair))
    values = [Y[:, None], X[:, :1]]
    values = dict(zip("ab", values)) if kind is dict else values
    np.testing.assert_array_equal(model(values).mean(), Y)
    np.testing.assert_array_equal(model.predict(values, verbose=0), Y)
    shapes = {"a": (4, 1), "b": (4, 1)} if kind is dict else [(4, 1), (4, 1)]
    assert layer.compute_output_shape(shapes) == (4,)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)
        self.head = DistributionLambda(flat_normal)

    def call(self, inputs):
        return self.head(self.dense(inputs))


def test_subclassed_and_nested_models():
    for model in (Subclassed(), keras.Sequential([keras.Input((3,)), Subclassed()])):
        model.compile(keras.optimizers.Adam(0.1), nll)
        losses = model.fit(X, Y[:, None], epochs=5, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        assert isinstance(model(X), tfd.Distribution)


def test_a_distribution_in_the_middle_of_a_network():
    seen = []
    encoder = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2), DistributionLambda(event_normal, seed=4)]
    )
    inputs = keras.Input((1,))
    latent = keras.layers.Lambda(lambda z: seen.append(z) or z * 1.0, output_shape=(1,))(inputs)
    decoder = keras.Model(inputs, DistributionLambda(event_normal)(keras.layers.Dense(2)(latent)))
    model = keras.Model(encoder.inputs[0], decoder(encoder.outputs[0]))
    model.compile(keras.optimizers.Adam(0.05), nll)
    losses = model.fit(X, X[:, :1], epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    gradient = encoder.layers[0].kernel
    assert np.abs(gradient - make_model().layers[0].kernel).max() > 0
    model(X)
    # The decoder gets the distribution itself, which there counts as its draw.
    assert isinstance(seen[-1], tfd.Distribution)
    assert seen[-1].shape == (64, 1)


def test_activity_regularizers_get_the_distribution():
    prior = tfd.Independent(tfd.Normal([0.0], 1.0), 1)
    model = make_model(
        event_normal,
        activity_regularizer=lambda rv: ops.mean(tfd.kl_divergence(rv, prior)),
    )
    rv = model(X)
    expected = ops.mean(tfd.kl_divergence(rv, prior))
    assert any(np.isclose(model.losses[0], [expected, expected / 64], rtol=1e-5))


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_does_not_reach_the_distribution(name):
    with policy(name):
        model = make_model()
        model.compile(keras.optimizers.SGD(0.01), nll)
        history = model.fit(X, Y, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    rv = model(X)
    assert rv.mean().dtype == rv.dtype == rv.log_prob(Y).dtype == "float32"
    assert model.layers[0](X).dtype == name.removeprefix("mixed_")


def test_masked_steps_do_not_count():
    sequences = GENERATOR.normal(size=(8, 5, 3)).astype("float32")
    sequences[:, 3:] = 0
    model = keras.Sequential(
        [keras.layers.Masking(), keras.layers.Dense(2), DistributionLambda(flat_normal)]
    )
    model.compile("sgd", nll)
    targets = sequences[..., 0].copy()
    loss = model.evaluate(sequences, targets, verbose=0)
    targets[:, 3:] = 1e3
    assert model.evaluate(sequences, targets, verbose=0) == pytest.approx(loss, rel=1e-6)


def test_monte_carlo_optimizer_trains_it():
    model = make_model()
    model.compile(MonteCarloOptimizer(population_size=64, learning_rate=0.1, seed=1), nll)
    losses = model.fit(X, Y[:, None], epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_custom_loops(jit_compile):
    model = make_model()

    def gradients(x, y):
        def loss(weights):
            rv, _ = model.stateless_call(weights, state, x, training=True)
            return -ops.mean(rv.log_prob(y))

        return value_and_gradients(loss, weights)[1]

    weights = [variable.value for variable in model.trainable_variables]
    state = [variable.value for variable in model.non_trainable_variables]
    expected = gradients(X, Y)
    for one, other in zip(compiled(gradients, jit_compile)(X, Y), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of threads, in keras-tuner
def test_keras_tuner_search(tmp_path):
    def build(hp):
        head = getattr(layers, hp.Choice("head", ["IndependentNormal", "IndependentLaplace"]))
        model = keras.Sequential([keras.layers.Dense(head.params_size(1)), head(1)])
        rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
        model.compile(keras.optimizers.Adam(rate), losses.NegativeLogLikelihood())
        return model

    tuner = keras_tuner.RandomSearch(
        build, "val_loss", max_trials=2, directory=tmp_path, seed=1, overwrite=True
    )
    tuner.search(X, Y, validation_data=(X, Y), epochs=1, verbose=0)
    best = tuner.get_best_hyperparameters()[0]
    assert 1e-4 <= best.get("learning_rate") <= 1e-1
    assert isinstance(tuner.hypermodel.build(best)(X), tfd.Distribution)
    assert np.isfinite(tuner.oracle.get_best_trials()[0].score)


@pytest.mark.skipif(ON_JAX, reason="stands on a SavedModel of TensorFlow")
def test_export_to_saved_model(tmp_path):
    import tensorflow

    model = make_model(convert_to_tensor_fn="mean")
    model.export(tmp_path / "model", verbose=False)
    loaded = tensorflow.saved_model.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.serve(X), model(X).mean(), rtol=1e-5)


def test_a_registered_function_loads_in_safe_mode():
    model = make_model(event_normal, convert_to_tensor_fn="mean", seed=3)
    loaded = saved_and_loaded(model)
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert loaded.layers[-1].make_distribution_fn is event_normal


def test_a_lambda_says_what_to_do_instead(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((2,)),
            DistributionLambda(
                lambda t: tfd.Independent(tfd.Normal(t, (lambda z: z**2 + 1.0)(t)), 1),
                convert_to_tensor_fn=lambda rv: rv.mean() + 0.1 * rv.stddev(),
                name="head",
            ),
        ]
    )
    path = tmp_path / "model.keras"
    with pytest.warns(
        UserWarning, match=r"'head' is saved with a Python lambda.*IndependentNormal"
    ):
        model.save(path)
    with pytest.raises(TypeError, match="safe_mode=False"):
        keras.saving.load_model(path)
    loaded = keras.saving.load_model(path, safe_mode=False)
    inputs = X[:, :2]
    np.testing.assert_array_equal(
        loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0)
    )
    np.testing.assert_array_equal(loaded(inputs).stddev(), model(inputs).stddev())


def test_wrong_arguments():
    with pytest.raises(
        TypeError, match=r"`make_distribution_fn` must be a function.*Received: .*3"
    ):
        DistributionLambda(3)
    with pytest.raises(ValueError, match=r"`convert_to_tensor_fn` must be .*'no_such'"):
        DistributionLambda(flat_normal, "no_such")(X)
    with pytest.raises(TypeError, match=r"`convert_to_tensor_fn` must be a function.*None"):
        DistributionLambda(flat_normal, None)
    with pytest.raises(TypeError, match=r"`convert_to_tensor_fn` must return one tensor"):
        DistributionLambda(flat_normal, lambda rv: (rv.mean(), rv.stddev()))(X)
    with pytest.raises(TypeError, match=r"Layer 'head' must make a distribution.*of type"):
        DistributionLambda(lambda t: t, name="head")(X)
    with pytest.raises(TypeError, match=r"Layer 'head' must make a distribution"):
        keras.Sequential([keras.Input((3,)), DistributionLambda(lambda t: t, name="head")])


def test_validate_args_names_the_layer():
    def unchecked_scale(t):
        return tfd.Independent(tfd.Normal(t[..., :1], t[..., 1:]), 1)

    layer = DistributionLambda(unchecked_scale, validate_args=True, name="head")
    fine = np.ones((4, 2), "float32")
    assert np.isfinite(layer(fine).log_prob(fine[:, :1])).all()
    with pytest.raises(ValueError, match=r"(?s)Layer 'head': .*`scale` must be positive"):
        layer(-fine)
    with pytest.raises(ValueError, match="Layer 'head' received NaN or infinite parameters"):
        layer(fine * np.nan)

    model = keras.Sequential([keras.Input((2,)), layer])
    model.compile("sgd", nll)
    if ON_JAX:  # Its compiled programs cannot raise.
        assert np.isnan(model.evaluate(-fine, fine[:, :1], verbose=0))
        assert np.isnan(model.evaluate(fine * np.nan, fine[:, :1], verbose=0))
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="head"):
            model.evaluate(-fine, fine[:, :1], verbose=0)
        with pytest.raises(tf.errors.InvalidArgumentError, match="Layer 'head' received NaN"):
            model.evaluate(fine * np.nan, fine[:, :1], verbose=0)
    silent = DistributionLambda(unchecked_scale)(fine * np.nan)
    assert np.isnan(silent.log_prob(fine[:, :1])).all()
