"""Divergences from priors, as regularizers and as layers: values, trained priors, saving."""

import h5py
import keras
import numpy as np
import pytest
from contract_support import check_config, policy, saved_and_loaded
from keras import ops
from precision import ON_JAX
from probability import tf, tfb, tfd
from tiers import UNCOMPILED, quick

from keras_extras import callbacks, layers, losses
from keras_extras._core.probability import stateless_seed
from keras_extras.layers.distribution_config import (
    deserialize_distribution,
    serialize_distribution,
)

pytestmark = pytest.mark.both_backends(cases=1)

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
PRIOR = tfd.MultivariateNormalDiag([0.0, 1.0], [1.0, 2.0])


def posterior(**keywords):
    return layers.MultivariateNormalDiag(2, seed=3, **keywords)


def expected_mean_kl():
    return float(ops.mean(tfd.kl_divergence(posterior()(X).tensor_distribution, PRIOR)))


def test_exact_divergence():
    regularizer = layers.KLDivergenceRegularizer(PRIOR, use_exact_kl=True)
    plain = posterior()(X).tensor_distribution
    assert float(regularizer(plain)) == pytest.approx(32 * expected_mean_kl(), rel=1e-5)
    layer = posterior(activity_regularizer=regularizer)
    layer(X)
    assert float(layer.losses[0]) == pytest.approx(expected_mean_kl(), rel=1e-5)


def test_estimate_is_unbiased():
    """The mean of 200 estimates lies within 4 standard errors of the closed form."""
    layer = posterior(activity_regularizer=layers.KLDivergenceRegularizer(PRIOR))
    values = np.array([(layer(X), float(layer.losses[0]))[1] for _ in range(200)])
    z = (values.mean() - expected_mean_kl()) / (values.std() / np.sqrt(200))
    assert abs(z) < 4, f"z = {z:.2f}"


def test_the_test_point_is_what_the_next_layer_sees():
    layer = posterior(activity_regularizer=layers.KLDivergenceRegularizer(PRIOR))
    rv = layer(X)
    z = ops.convert_to_tensor(rv)
    expected = ops.mean(rv.log_prob(z) - PRIOR.log_prob(z))
    assert float(layer.losses[0]) == pytest.approx(float(expected), rel=1e-5)


def test_several_test_points_and_weight():
    def points(rv):
        return rv.sample(500)

    exact = expected_mean_kl()
    layer = posterior(
        activity_regularizer=layers.KLDivergenceRegularizer(
            PRIOR, test_points_reduce_axis=0, test_points_fn=points, weight=0.5
        )
    )
    layer(X)
    assert float(layer.losses[0]) == pytest.approx(0.5 * exact, rel=0.05)
    layer = layers.KLDivergenceAddLoss(PRIOR, test_points_fn=points, weight=0.5)
    layer(posterior()(X))
    assert float(layer.losses[0]) == pytest.approx(0.5 * exact, rel=0.05)


@pytest.mark.parametrize("jit_compile", ["auto"] if ON_JAX else quick([False, True], False))
def test_regularizer_and_layer_add_the_same(jit_compile):
    def total(regularizer, more):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [keras.Input((4,)), posterior(activity_regularizer=regularizer), *more]
        )
        model.add(keras.layers.Dense(2))
        model.add(layers.IndependentNormal())
        model.compile("sgd", losses.NegativeLogLikelihood(), jit_compile=jit_compile)
        return model.evaluate(X, X[:, 0], batch_size=16, verbose=0)

    without = total(None, [])
    by_regularizer = total(layers.KLDivergenceRegularizer(PRIOR, use_exact_kl=True), [])
    by_layer = total(None, [layers.KLDivergenceAddLoss(PRIOR, use_exact_kl=True)])
    assert by_regularizer == pytest.approx(without + expected_mean_kl(), rel=1e-5)
    assert by_layer == pytest.approx(by_regularizer, rel=1e-5)


def test_the_layer_passes_the_distribution_on():
    for name in ("float32", "mixed_float16"):
        with policy(name):
            layer = layers.KLDivergenceAddLoss(PRIOR)
            rv = posterior()(X)
            assert layer(rv) is rv
            model = keras.Sequential([keras.Input((4,)), posterior(), layer])
        assert model.output_shape == (None, 2)
        assert isinstance(model(X), tfd.Distribution)
    with pytest.raises(TypeError, match="must follow a layer of distributions"):
        layers.KLDivergenceAddLoss(PRIOR)(X)


def trainable_prior():
    return keras.Sequential([layers.VariableLayer((4,)), layers.MultivariateNormalDiag(2)])


@pytest.mark.parametrize("kind", ["regularizer", "layer"])
def test_a_prior_with_weights_is_trained_and_saved(kind):
    prior = trainable_prior()
    if kind == "regularizer":
        regularizer = layers.KLDivergenceRegularizer(prior, use_exact_kl=True)
        parts = [posterior(activity_regularizer=regularizer)]
    else:
        parts = [posterior(), layers.KLDivergenceAddLoss(prior, use_exact_kl=True)]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, "tanh"), *parts])
    assert any("constant" in variable.path for variable in model.trainable_variables)
    model.compile(keras.optimizers.Adam(0.05), losses.NegativeLogLikelihood())
    before = ops.convert_to_numpy(prior(ops.zeros(())).mean())
    model.fit(X, X[:, :2] + 2.0, epochs=20, verbose=0)
    assert np.abs(prior(ops.zeros(())).mean() - before).max() > 0.1

    loaded = saved_and_loaded(model)
    weights = {variable.path.split("/")[-1]: variable.numpy() for variable in model.weights}
    for variable in loaded.weights:
        np.testing.assert_array_equal(variable.numpy(), weights[variable.path.split("/")[-1]])
    assert loaded.evaluate(X, X[:, :2], verbose=0) == pytest.approx(
        model.evaluate(X, X[:, :2], verbose=0), rel=1e-5
    )


@keras.saving.register_keras_serializable(__name__)
def standard_prior():
    return tfd.MultivariateNormalDiag([0.0, 1.0], [1.0, 2.0])


@pytest.mark.parametrize("prior", [PRIOR, standard_prior], ids=["distribution", "function"])
def test_saving(prior):
    regularizer = layers.KLDivergenceRegularizer(prior, weight=0.3, test_points_reduce_axis=0)
    check_config(regularizer)
    check_config(layers.KLDivergenceAddLoss(prior, use_exact_kl=True, weight=0.3, name="kl"))
    model = keras.Sequential([keras.Input((4,)), posterior(activity_regularizer=regularizer)])
    model.compile("sgd", losses.NegativeLogLikelihood())
    loaded = saved_and_loaded(model)
    assert loaded.layers[0].activity_regularizer.get_config() == regularizer.get_config()
    keras.utils.set_random_seed(1)
    assert np.isfinite(loaded.evaluate(X, X[:, :2], verbose=0))


@pytest.mark.parametrize(
    "distribution",
    [
        tfd.Normal(0.5, [1.0, 2.0]),
        tfd.Independent(tfd.Normal(np.zeros(3, "float32"), scale=1), reinterpreted_batch_ndims=1),
        tfd.MultivariateNormalTriL([0.0, 1.0], [[1.0, 0.0], [0.5, 2.0]]),
        tfd.MixtureSameFamily(
            tfd.Categorical(logits=[0.0, 1.0]),
            tfd.Independent(tfd.Laplace([[0.0], [1.0]], 0.5), 1),
        ),
        tfd.Sample(tfd.Gamma(2.0, 1.0), [2]),
        tfd.Bernoulli(logits=[0.5], dtype=tf.int16),
    ],
    ids=lambda d: d.name,
)
def test_fixed_distributions_as_configurations(distribution):
    restored = deserialize_distribution(serialize_distribution(distribution))
    draw = distribution.sample(4, seed=stateless_seed(keras.random.SeedGenerator(1)))
    assert type(restored) is type(distribution)
    assert restored.dtype == distribution.dtype
    np.testing.assert_allclose(restored.log_prob(draw), distribution.log_prob(draw), rtol=1e-6)


def test_only_distributions_come_from_a_configuration():
    for name in ("kl_divergence", "os", "RegisterKL", "__class__"):
        with pytest.raises(ValueError, match="There is no distribution"):
            deserialize_distribution({"distribution": name, "parameters": {}})

    class Own(tfd.Normal):
        pass

    with pytest.raises(ValueError, match="no distribution 'Own'"):
        serialize_distribution(Own(0.0, 1.0))
    bent = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfb.Exp())
    with pytest.raises(ValueError, match=r"`TransformedDistribution\.bijector` cannot be saved"):
        serialize_distribution(bent)


def test_wrong_priors():
    with pytest.raises(TypeError, match="`distribution_b` must be a distribution"):
        layers.KLDivergenceRegularizer(3.0)
    if not ON_JAX:
        with pytest.raises(ValueError, match=r"trainable variables of TensorFlow.*VariableLayer"):
            layers.KLDivergenceAddLoss(tfd.Normal(tf.Variable(0.0), 1.0))
    with pytest.raises(TypeError, match="`distribution_b` must be a distribution"):
        layers.KLDivergenceRegularizer(tfd.Normal)
    regularizer = layers.KLDivergenceRegularizer(PRIOR)
    with pytest.raises(TypeError, match="output of a layer of distributions"):
        keras.layers.Dense(2, activity_regularizer=regularizer)(X)


@pytest.mark.parametrize(
    "make",
    [
        layers.KLDivergenceAddLoss,
        lambda prior: layers.DenseFlipout(2, kernel_prior_fn=prior),
        lambda prior: layers.DenseVariational(2, prior=prior),
        lambda prior: layers.Variational(keras.layers.Dense(2), prior=prior),
    ],
)
def test_distributions_of_another_backend_are_named(make):
    other = type("Normal", (), {"log_prob": None, "__module__": "tensorflow_probability.python"})
    with pytest.raises(TypeError, match=r"a distribution must be one of `tensorflow_probability"):
        make(other())


def _model_of(kind, weight):
    """The posterior of `expected_mean_kl` behind a layer that changes nothing."""
    if kind == "layer":
        layer = layers.KLDivergenceAddLoss(PRIOR, use_exact_kl=True, weight=weight)
        parts = [posterior(), layer]
    else:
        regularizer = layers.KLDivergenceRegularizer(PRIOR, use_exact_kl=True, weight=weight)
        parts = [posterior(activity_regularizer=regularizer)]
    identity = keras.layers.Dense(4, kernel_initializer="identity")
    model = keras.Sequential([keras.Input((4,)), identity, *parts])
    model.compile(keras.optimizers.SGD(0.0), losses.NegativeLogLikelihood(), **UNCOMPILED)
    return model


def _loss_of(model):
    model(X)
    return float(model.losses[0])


def fixed_variable(value):
    return keras.Variable(value, trainable=False)


# Programs of JAX see the values of variables that the model lists, and train others.
VARIABLES = [] if ON_JAX else [tf.Variable, keras.Variable]
KINDS = pytest.mark.parametrize("kind", ["regularizer", "layer"])


@KINDS
@pytest.mark.parametrize(
    "make", [*VARIABLES, fixed_variable, ops.convert_to_tensor, np.array, float]
)
def test_weights_of_every_kind(kind, make):
    weight = make(0.25)
    model = _model_of(kind, weight)
    assert len(model.trainable_variables) == 2, "The weight is trained"
    assert _loss_of(model) == pytest.approx(0.25 * expected_mean_kl(), rel=1e-5)
    assert _loss_of(saved_and_loaded(model)) == pytest.approx(0.25 * expected_mean_kl(), rel=1e-5)
    if "Variable" in type(weight).__name__:
        before = model.evaluate(X, X[:, :2], verbose=0)
        weight.assign(1.25)
        assert _loss_of(model) == pytest.approx(1.25 * expected_mean_kl(), rel=1e-5)
        keras.utils.set_random_seed(0)
        after = model.evaluate(X, X[:, :2], verbose=0)
        assert after - before == pytest.approx(expected_mean_kl(), rel=1e-4)


@KINDS
def test_a_schedule_counts_training_steps_and_is_saved_with_them(kind):
    ramp = keras.optimizers.schedules.PolynomialDecay(0.0, 10, end_learning_rate=1.0)
    model = _model_of(kind, ramp)
    for step in range(3):
        model(X, training=True)
        expected = 0.1 * step * expected_mean_kl()
        assert float(model.losses[0]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert _loss_of(model) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    loaded = saved_and_loaded(model)
    loaded.fit(X, X[:, :2], epochs=2, batch_size=len(X), verbose=0)
    assert _loss_of(loaded) == pytest.approx(0.4 * expected_mean_kl(), rel=1e-4)


@KINDS
def test_a_warm_up_serves_divergences_of_outputs(kind):
    model = _model_of(kind, 0.5)
    seen = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(_loss_of(model)))
    warm_up = callbacks.KLWarmUp(2, start=0.2)
    model.fit(X, X[:, :2], epochs=3, callbacks=[warm_up, note], verbose=0)
    expected = 0.5 * expected_mean_kl() * np.array([0.2, 0.6, 1.0])
    np.testing.assert_allclose(seen, expected, rtol=1e-5)


@pytest.mark.parametrize("weight", [-1.0, "half", [-0.5, 0.5], [np.nan], True])
def test_wrong_weights(weight):
    with pytest.raises((TypeError, ValueError), match="`weight` must"):
        layers.KLDivergenceAddLoss(PRIOR, weight=weight)


@pytest.mark.skipif(not ON_JAX, reason="TensorFlow reads any variable")
@pytest.mark.parametrize("make", [keras.Variable, tf.Variable])
def test_a_variable_that_a_program_would_not_read_is_refused(make):
    with pytest.raises(ValueError, match="with `trainable=False` on JAX"):
        layers.KLDivergenceAddLoss(PRIOR, weight=make(0.25))


@KINDS
def test_weights_of_files_from_before_warm_ups_are_loaded(kind, tmp_path):
    model = _model_of(kind, 0.25)
    path = tmp_path / "old.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "a") as file:
        names: list[str] = []
        file.visit(names.append)
        (group,) = (name for name in names if name.endswith("divergence_weight/vars"))
        del file[group]["0"]
    model.layers[0].kernel.assign(np.zeros((4, 4)))
    model.load_weights(path)
    np.testing.assert_array_equal(model.layers[0].kernel, np.eye(4))
    assert _loss_of(model) == pytest.approx(0.25 * expected_mean_kl(), rel=1e-5)
