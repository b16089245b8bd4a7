"""Data at the entry points of derivatives and inference: real, finite, paired with the outputs."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from precision import ON_JAX

from keras_extras import autodiff, unrolled
from keras_extras.layers import MissingValueImputer

pytestmark = pytest.mark.both_backends

RNG = np.random.default_rng(2)
X = RNG.normal(size=(6, 3)).astype("float32")
Y = np.round(3 * RNG.normal(size=(6, 1))).astype("float32")
HOLED = np.where(Y > 0, np.nan, Y)
TWO_COLUMNS = np.concatenate([Y, Y], axis=1)


def linear():
    return keras.Sequential([keras.Input((3,)), layers.Dense(1, kernel_initializer="ones")])


class Squared(keras.losses.Loss):
    """Without Keras' own care for targets of shape (n,)."""

    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), axis=-1)


def squared(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


def unrolled_training(loss="mse", **arguments):
    arguments = {"batch_size": None, "jit_compile": ON_JAX, **arguments}
    return unrolled.UnrolledTraining(linear(), "sgd", loss, 2, {"learning_rate": 0.1}, **arguments)


DERIVATIVES = {
    "gradient": lambda y, loss="mse": autodiff.gradient(linear(), X, y, loss=loss),
    "hessian": lambda y, loss="mse": autodiff.hessian(linear(), X, y, loss=loss),
    "product": lambda y, loss="mse": autodiff.hessian_vector_product(
        linear(), X, y, [np.ones((3, 1)), np.ones(1)], loss=loss
    ),
    "unrolled": lambda y, loss="mse": unrolled_training(loss).hypergradient(X, y, (X, Y))[0],
    "validated": lambda y, loss="mse": unrolled_training(loss).hypergradient(X, Y, (X, y))[0],
    "checked": lambda y, loss="mse": (
        autodiff.check_gradients(linear(), X, y, loss=loss, entries=1).entries[0].analytic
    ),
}


@pytest.mark.parametrize("loss", ["mse", squared, Squared()], ids=["name", "function", "class"])
@pytest.mark.parametrize("road", ["gradient", "unrolled", "validated"])
def test_targets_of_another_rank_are_those_of_the_outputs(road, loss):
    expected = DERIVATIVES[road](Y, loss)
    for y in (Y[:, 0], Y[..., None], Y.astype("int32")):
        for part, right in zip(
            keras.tree.flatten(DERIVATIVES[road](y, loss)), keras.tree.flatten(expected)
        ):
            np.testing.assert_allclose(part, right, rtol=1e-6)
    kernel, bias = autodiff.gradient(linear(), X, Y[:, 0], loss=loss)
    residual = 2 * (X.sum(axis=1, keepdims=True) - Y)
    np.testing.assert_allclose(kernel, (residual * X).mean(axis=0)[:, None], rtol=1e-5)
    np.testing.assert_allclose(bias, residual.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("road", DERIVATIVES)
@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (TWO_COLUMNS, ValueError, r"`y` must have the shape of the outputs, \(n, 1\)"),
        (Y[:, None].repeat(2, axis=1), ValueError, "`y` must have the shape of the outputs"),
        (Y + 1j, TypeError, "`y` must hold real numbers. Received: y of dtype complex64"),
        (HOLED, ValueError, "`y` must be finite. Received: nan at"),
        (np.full_like(Y, np.inf), ValueError, "`y` must be finite"),
        (Y.astype(str), TypeError, "must be (an array|arrays).* of numbers"),
    ],
    ids=["columns", "rank", "complex", "nan", "infinite", "strings"],
)
def test_targets_that_do_not_fit_are_refused(road, y, error, message):
    with pytest.raises(error, match=message):
        DERIVATIVES[road](y)


@pytest.mark.parametrize("x", [np.where(X > 0, np.nan, X), np.full_like(X, np.inf), X + 1j])
def test_inputs_must_be_real_and_finite(x):
    message = "`x` must (be finite|hold real numbers)"
    for call in (
        lambda: autodiff.gradient(linear(), x, Y, loss="mse"),
        lambda: autodiff.jacobian(linear(), x),
        lambda: autodiff.jacobian(keras.Sequential([layers.Dense(1)]), x),
        lambda: autodiff.check_gradients(keras.Sequential([layers.Dense(1)]), x),
        lambda: unrolled_training().run(x, Y),
        lambda: unrolled_training().hypergradient(X, Y, (x, Y)),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()


def test_nan_that_the_model_fills_in_is_taken():
    holes = np.where(X > 1, np.nan, X)
    imputer = MissingValueImputer()
    imputer.adapt(holes)
    model = keras.Sequential([keras.Input((3,)), imputer, layers.Dense(1)])
    kernel, _ = autodiff.gradient(model, holes, Y, loss="mse")
    filled = np.asarray(imputer(holes))
    residual = 2 * (np.asarray(model(holes)) - Y)
    np.testing.assert_allclose(kernel, (residual * filled).mean(axis=0)[:, None], rtol=1e-4)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.full(6, np.nan), "`sample_weight` must be finite"),
        (np.ones((6, 2)), "`sample_weight` must have one number for each row"),
        (np.ones(6) + 1j, "`sample_weight` must hold real numbers"),
    ],
)
def test_weights_of_rows_that_do_not_fit_are_refused(weights, message):
    with pytest.raises((TypeError, ValueError), match=message):
        autodiff.gradient(linear(), X, Y, loss="mse", sample_weight=weights)
    with pytest.raises((TypeError, ValueError), match=message):
        unrolled_training().hypergradient(X, Y, (X, Y, weights))


def test_labels_and_losses_of_other_targets_are_taken():
    """Classes have an axis less than their probabilities, and a custom loss has its own targets."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    one_hot = keras.losses.CategoricalCrossentropy(from_logits=True)
    labels = np.array([0, 1, 1, 0, 1, 0])
    expected = autodiff.gradient(model, X, np.eye(2)[labels], loss=one_hot)
    for y in (labels, labels[:, None], labels.astype("float32")):
        for part, right in zip(autodiff.gradient(model, X, y, loss=sparse), expected):
            np.testing.assert_allclose(part, right, rtol=1e-4, atol=1e-6)

    def weighted(y_true, y_pred):
        return y_true[:, 1] * ops.square(y_true[:, 0] - y_pred[:, 0])

    value, _ = autodiff.gradient(linear(), X, np.column_stack([Y, Y**0]), loss=weighted)
    np.testing.assert_allclose(value, autodiff.gradient(linear(), X, Y, loss="mse")[0], rtol=1e-5)


def test_flags_and_counts():
    with pytest.raises(TypeError, match="`training` must be True or False"):
        autodiff.gradient(linear(), X, Y, loss="mse", training="False")
    with pytest.raises(TypeError, match="`diagonal` must be True or False"):
        autodiff.hessian(linear(), X, Y, loss="mse", diagonal="no")
    with pytest.raises(TypeError, match="`jit_compile` must be True or False"):
        unrolled_training(jit_compile="no")
    with pytest.raises(ValueError, match="`entries` or `directions` must be at least 1"):
        autodiff.check_gradients(linear(), X, Y, loss="mse", entries=0, directions=0)
    with pytest.raises(ValueError, match="`steps` must be at most 10,000,000"):
        unrolled.UnrolledTraining(linear(), "sgd", "mse", 2**62, {"learning_rate": 0.1})


def test_vectors_and_hyperparameters_must_be_real_and_finite():
    kernel, bias = np.ones((3, 1)), np.ones(1)
    for bad, message in ((1j * kernel, "real numbers"), (kernel * np.nan, "finite")):
        with pytest.raises((TypeError, ValueError), match=f"`vector` must .*{message}"):
            autodiff.hessian_vector_product(linear(), X, Y, [bad, bias], loss="mse")
        with pytest.raises((TypeError, ValueError), match="`vector` must"):
            autodiff.vector_jacobian_product(linear(), X, bad.repeat(2, axis=0))
    for values in ({"sample_weight": np.ones(6) * 1j}, {"learning_rate": 0.1j}):
        with pytest.raises(TypeError, match=r"must hold real numbers\. Received: complex"):
            unrolled.UnrolledTraining(linear(), "sgd", "mse", 2, values)
    with pytest.raises(ValueError, match="`verbose` must be one of 0, 1, 2"):
        unrolled_training().fit(X, Y, (X, Y), verbose="no")


class TestInference:
    @staticmethod
    def roads():
        from keras_extras import inference
        from keras_extras._core.probability import tfd
        from keras_extras.layers import IndependentNormal

        head = keras.Sequential([keras.Input((3,)), layers.Dense(2), IndependentNormal(1)])
        plain = linear()

        def noise(outputs):
            return tfd.Independent(tfd.Normal(outputs, 0.5), 1)

        def laplace(model, likelihood):
            return lambda x, y: inference.LaplaceApproximation(
                model, x, y, likelihood=likelihood
            ).log_marginal_likelihood()

        def chains(x, y):
            posterior = inference.sample_posterior(
                plain, x, y, likelihood=noise, kernel="hmc", num_chains=1, num_results=3,
                num_burnin_steps=2, num_leapfrog_steps=2, jit_compile=False, seed=1, verbose=0,
            )  # fmt: skip
            return posterior.samples[0]

        return [laplace(head, None), laplace(plain, noise), chains]

    def test_integers_and_targets_of_another_rank_give_the_same(self):
        for road in self.roads():
            expected = road(X, Y)
            for y in (Y.astype("int64"), Y.astype("int32"), Y[:, 0], Y[..., None], Y.astype(float)):
                np.testing.assert_allclose(road(X, y), expected, rtol=1e-5)

    @pytest.mark.parametrize(
        ("y", "message"),
        [
            (TWO_COLUMNS, "cannot pair targets"),
            (Y[:, None].repeat(2, axis=1), "cannot pair targets"),
            (Y[None], "one row for each row"),
            (HOLED, "`y` must be finite"),
            (Y + 1j, "`y` must hold real numbers"),
        ],
        ids=["columns", "rank", "batch", "nan", "complex"],
    )
    def test_targets_that_do_not_fit_are_refused(self, y, message):
        for road in self.roads():
            road(X, Y)  # What is compiled for other targets changes nothing.
            with pytest.raises((TypeError, ValueError), match=message):
                road(X, y)

    def test_weights_and_steps_must_be_finite(self):
        from keras_extras import inference
        from keras_extras._core.probability import tfd

        model = linear()
        with pytest.raises(ValueError, match="`step_size` must be greater than 0 and at most"):
            inference.sample_posterior(model, X, Y, likelihood=tfd.Poisson, step_size=1e30)
        with pytest.raises(TypeError, match="`jit_compile` must be True or False"):
            inference.sample_posterior(model, X, Y, likelihood=tfd.Poisson, jit_compile="no")
        model.layers[0].kernel.assign(np.full((3, 1), np.nan))
        with pytest.raises(ValueError, match=r"`model.trainable_variables` must be finite"):
            inference.LaplaceApproximation(model, X, Y, likelihood=lambda o: tfd.Normal(o, 1.0))
