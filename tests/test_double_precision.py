"""What stands on distributions, with `keras.config.set_floatx("float64")` and in half precision."""

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp

from keras_extras import inference, layers, pipelines, predict_distribution

tfd = tfp.distributions
X = np.random.default_rng(0).normal(size=(40, 2))
Y = X[:, :1] + 0.1 * np.random.default_rng(1).normal(size=(40, 1))


def make_model(hidden):
    model = keras.Sequential([keras.Input((2,)), hidden, layers.IndependentNormal(1)])
    model.compile("adam", loss=lambda y, rv_y: -rv_y.log_prob(y))
    return model


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("prior", ["standard_normal", tfd.Normal(0.0, 1.0)], ids=str)
def test_predictions_of_uncertain_weights(prior):
    model = make_model(layers.DenseFlipout(2, kl_weight="auto", prior=prior))
    model.fit(X, Y, verbose=0)
    prediction = predict_distribution(model, X, num_samples=7)
    assert prediction.dtype == "float64"
    assert prediction.log_prob(Y).dtype == "float64"
    total = prediction.aleatoric_variance() + prediction.epistemic_variance()
    np.testing.assert_allclose(prediction.variance(), total, rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_laplace_approximation():
    model = make_model(keras.layers.Dense(2))
    laplace = inference.LaplaceApproximation(model, X, Y)
    assert laplace.predict_distribution(X).epistemic_variance().dtype == "float64"
    assert predict_distribution(laplace, X, num_samples=3).mean().shape == (40, 1)


@pytest.mark.usefixtures("float64")
def test_chains_say_that_they_are_in_single_precision():
    model = make_model(keras.layers.Dense(2))
    with pytest.raises(ValueError, match=r"must be float32.*kernel': 'float64'"):
        inference.sample_posterior(model, X, Y)


@pytest.mark.parametrize("policy", ["float64", "mixed_float16"])
@pytest.mark.parametrize("method", ["ensemble", "flipout", "laplace"])
def test_estimators(policy, method, request):
    if policy == "float64":
        request.getfixturevalue("float64")
    keras.config.set_dtype_policy(policy)
    settings = {"epochs": 3, "num_members": 2, "num_samples": 5, "random_state": 0}
    regressor = pipelines.ProbabilisticRegressor(method, hidden_units=(4,), **settings)
    mean, stddev = regressor.fit(X, Y[:, 0]).predict(X, return_std=True)
    assert np.isfinite(mean).all()
    assert np.all(stddev > 0)


def test_a_flow_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    made = layers.AutoregressiveNetwork(2, hidden_units=[4], activation="tanh")
    flow = keras.Sequential(
        [layers.MultivariateNormalDiag(2), layers.AutoregressiveTransform(made)]
    )
    assert np.isfinite(flow(np.zeros((3, 4))).log_prob(np.zeros((3, 2)))).all()
