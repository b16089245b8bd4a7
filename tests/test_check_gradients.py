"""The gradient check passes on every layer and loss of ours, and fails on wrong gradients."""

import contract_cases
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from keras import ops

from keras_extras import autodiff, layers, losses

tfd = tfp.distributions
pytestmark = pytest.mark.usefixtures("float64")

RNG = np.random.default_rng(8)
X = RNG.normal(size=(4, 3))
Y = RNG.normal(size=(4, 2))

# What has no gradient by its nature, and is trained by an optimizer that needs none.
WITHOUT_GRADIENT = {
    "ApproximateMedianSignificanceLoss": "counts the events above a threshold",
    "AUCLoss": "counts pairs in the wrong order",
    "f1_loss-micro": "counts decisions",
    "fbeta_loss-weighted": "counts decisions",
    "ZeroOneLoss": "counts wrong decisions",
}
# Its gradient is not that of its value, by definition; see the test of its own.
PARTLY_CONSTANT = {"BetaNegativeLogLikelihood": "weighs rows by a variance that is held constant"}


# Made of parts that were in single precision when the cases were listed; with an L1 regularizer,
# which in Keras 3.12 cannot do otherwise.
IN_FLOAT32 = ("MixtureSameFamily", "<tfp.distributions.Laplace", "ScaleShift")


def in_float32(case):
    return any(part in case.name for part in IN_FLOAT32)


def check_loss(case, loss):
    data = {"y": case.y_true[:6], "entries": 4}
    if case.head is None:
        return autodiff.check_gradients(loss, case.y_pred[:6], **data)
    model = keras.Sequential([keras.Input(case.y_pred.shape[1:]), case.head()])
    return autodiff.check_gradients(model, case.y_pred[:6], loss=loss, **data)


@pytest.mark.parametrize("case", contract_cases.LAYERS, ids=lambda case: case.name)
def test_layers(case):
    if in_float32(case):
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    report = autodiff.check_gradients(case.make(), case.inputs[:3], training=True, entries=2)
    assert report.passed, report
    assert report.tolerance == (1e-2 if in_float32(case) else 1e-6)
    assert len(report.entries) >= 2


@pytest.mark.parametrize("case", contract_cases.LOSSES, ids=lambda case: case.name)
def test_losses(case):
    report = check_loss(case, case.make())
    if case.name in WITHOUT_GRADIENT:
        assert report.without_gradient == ["y_pred"], report
    assert report.passed == (case.name not in {**WITHOUT_GRADIENT, **PARTLY_CONSTANT}), report


def test_beta_nll_weighs_the_gradient_of_the_likelihood():
    (case,) = [case for case in contract_cases.LOSSES if case.name in PARTLY_CONSTANT]
    assert check_loss(case, losses.BetaNegativeLogLikelihood(beta=0.0)).passed
    model = keras.Sequential([keras.Input(case.y_pred.shape[1:]), case.head()])
    data = {"x": case.y_pred[:6], "y": case.y_true[:6], "wrt": "inputs"}
    weights = model(data["x"]).variance() ** 0.3

    def weighed(y_true, distribution):
        marginals = tfd.Normal(distribution.mean(), distribution.stddev())
        return -ops.sum(np.asarray(weights) * marginals.log_prob(y_true), axis=-1)

    assert autodiff.check_gradients(model, loss=weighed, **data).passed
    np.testing.assert_allclose(
        autodiff.gradient(model, loss=losses.BetaNegativeLogLikelihood(beta=0.3), **data),
        autodiff.gradient(model, loss=weighed, **data),
    )


def _with(*rest):
    return keras.Sequential([keras.Input((3,)), *rest])


def _gaussian_process():
    spread = keras.initializers.RandomNormal(1.0, seed=1)
    return layers.VariationalGaussianProcess(
        3,
        layers.ExponentiatedQuadraticKernel(),
        inducing_index_points_initializer=spread,
        unconstrained_observation_noise_variance_initializer="zeros",
        variational_inducing_observations_scale_initializer=keras.initializers.Constant(
            0.3 * np.eye(3)
        ),
        convert_to_tensor_fn="mean",
    )


def _transform():
    made = layers.AutoregressiveNetwork(2, hidden_units=[4], activation="tanh")
    # Not a draw, which takes long and is not in the loss.
    return layers.AutoregressiveTransform(made, convert_to_tensor_fn=_density_at_zero)


def _density_at_zero(distribution):
    return distribution.log_prob(np.zeros(2))


# Each in a model that makes of it what it is for, with a loss.
OF_ANOTHER_KIND = {
    "AutoregressiveTransform": lambda: (
        _with(keras.layers.Dense(4), layers.MultivariateNormalDiag(2), _transform()),
        losses.NegativeLogLikelihood(),
    ),
    "KLDivergenceAddLoss": lambda: (
        _with(
            keras.layers.Dense(4),
            layers.IndependentNormal(2, convert_to_tensor_fn="mean"),
            layers.KLDivergenceAddLoss(
                tfd.Independent(tfd.Normal(np.zeros(2), np.ones(2)), 1), use_exact_kl=True
            ),
        ),
        "mse",
    ),
    "VariableLayer": lambda: (
        _with(layers.VariableLayer(4, initializer="normal"), layers.IndependentNormal(2)),
        losses.NegativeLogLikelihood(),
    ),
    "VariationalGaussianProcess": lambda: (_with(_gaussian_process()), _variational_loss),
}


def _variational_loss(y_true, process):
    return process.variational_loss(y_true, kl_weight=0.5)


@pytest.mark.parametrize("name", OF_ANOTHER_KIND)
def test_layers_of_another_kind(name):
    model, loss = OF_ANOTHER_KIND[name]()
    wrt = "weights" if name == "VariableLayer" else "both"
    y = Y[:, :1] if loss is _variational_loss else Y
    report = autodiff.check_gradients(model, X, y, loss=loss, wrt=wrt, entries=0, directions=1)
    assert report.passed, report
    checked = {entry.path for entry in report.entries}
    assert checked >= {variable.path for variable in model.trainable_variables}


def test_a_layer_whose_outputs_are_a_network_and_its_derivative():
    network = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    report = autodiff.check_gradients(layers.SobolevTraining(network), X, entries=2)
    assert report.passed, report
    assert {entry.path for entry in report.entries} >= {w.path for w in network.weights}


class WrongGradient(keras.layers.Layer):
    """A product with a matrix, whose gradients are multiplied with some factors."""

    def __init__(self, of_kernel=1.0, of_inputs=1.0):
        super().__init__()
        self.factors = of_inputs, of_kernel

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], 8))

    def call(self, inputs):
        @tf.custom_gradient
        def product(inputs, kernel):
            def gradient(upstream):
                of_inputs = tf.matmul(upstream, kernel, transpose_b=True)
                of_kernel = tf.matmul(inputs, upstream, transpose_a=True)
                return of_inputs * self.factors[0], of_kernel * self.factors[1]

            return tf.matmul(inputs, kernel), gradient

        return product(inputs, tf.convert_to_tensor(self.kernel))


def test_a_wrong_gradient_fails():
    assert autodiff.check_gradients(WrongGradient(), X).passed

    report = autodiff.check_gradients(WrongGradient(of_kernel=1.001), X)
    assert not report.passed
    assert report.max_error == pytest.approx(1e-3, rel=2e-3)
    assert report.worst[0].path.endswith("kernel")
    assert report.worst[0].analytic == pytest.approx(1.001 * report.worst[0].numeric)

    report = autodiff.check_gradients(WrongGradient(of_inputs=-1.0), X)
    assert not report.passed
    assert {entry.path for entry in report.entries if entry.error > 1e-6} == {"inputs"}
    assert report.worst[0].error == pytest.approx(2.0)


def test_a_wrong_gradient_fails_inside_a_model_and_in_single_precision():
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    for factor in (1.0, 1.1):
        layer = WrongGradient(of_kernel=factor)
        model = _with(keras.layers.Dense(3, "tanh"), layer, keras.layers.Dense(2))
        model.compile(loss="mse")
        report = autodiff.check_gradients(model, X, Y)
        assert report.tolerance == 1e-2
        assert report.passed == (factor == 1.0), report
        wrong = {entry.path for entry in report.entries if entry.error > 1e-2}
        assert wrong == (set() if factor == 1.0 else {layer.kernel.path})


def test_a_direction_finds_a_wrong_entry_among_many():
    factors = np.ones((40, 8))
    factors[17, 3] = 1.5
    x = RNG.normal(size=(4, 40))
    report = autodiff.check_gradients(WrongGradient(of_kernel=factors), x, entries=2, directions=1)
    assert [entry.index for entry in report.entries if entry.error > 1e-6] == [None]
    assert not report.passed


class Function(keras.layers.Layer):
    """Any function of the inputs."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def test_kinks_are_told_from_wrong_gradients():
    x = np.array([[0.0, 1e-8, -0.7, 2.0]])
    report = autodiff.check_gradients(keras.layers.ReLU(), x, directions=0)
    assert report.passed, report
    assert [entry.index for entry in report.kinks] == [(0, 0), (0, 1)]
    close_by = autodiff.check_gradients(keras.layers.ReLU(), x + 1e-6, directions=0)
    assert close_by.passed, close_by
    assert not close_by.kinks

    @tf.custom_gradient
    def wrong(inputs):
        return tf.nn.relu(inputs), lambda upstream: upstream * 1.3

    report = autodiff.check_gradients(Function(wrong), x, directions=0)
    assert not report.kinks
    assert sum(entry.error > 1e-6 for entry in report.entries) == 4


def test_what_has_no_gradient_is_named():
    rounding = Function(ops.round)
    assert autodiff.check_gradients(rounding, X).without_gradient == ["inputs"]

    @tf.custom_gradient
    def steps(inputs):  # with a gradient of zero, as `ops.sign` has
        return ops.floor(inputs), lambda upstream: 0.0 * upstream

    dense = keras.layers.Dense(2)
    model = _with(dense, Function(steps), keras.layers.Dense(1))
    report = autodiff.check_gradients(model, X, Y[:, :1], loss="mse")
    assert report.without_gradient == [*(v.path for v in dense.weights), "inputs"]
    assert not report.passed

    model = _with(dense, rounding, keras.layers.Dense(1))
    report = autodiff.check_gradients(model, X, Y[:, :1], loss="mse")
    assert report.blocking_layers == [rounding.name]
    assert f"Layers that let no gradient through: {rounding.name}" in str(report)
    assert all("call" not in vars(layer) for layer in model.layers)


def test_what_rightly_has_a_gradient_of_zero_passes():
    below_zero = keras.initializers.Constant(-1.0)
    dead = keras.layers.Dense(2, "relu", kernel_initializer="zeros", bias_initializer=below_zero)
    report = autodiff.check_gradients(_with(dead), X)  # which would live with other weights
    assert report.passed, report
    assert autodiff.check_gradients(Function(ops.zeros_like), X).passed


def test_states_are_held_fixed_and_named():
    model = _with(keras.layers.BatchNormalization(), keras.layers.Dropout(0.5, seed=1))
    before = [np.asarray(variable) for variable in model.variables]
    report = autodiff.check_gradients(model, X, Y @ np.ones((2, 3)), loss="mse", training=True)
    assert report.passed, report
    kinds = [path.rpartition("/")[2] for path in report.held_fixed]
    assert kinds == ["moving_mean", "moving_variance", "seed_generator_state"]
    assert "moving_mean" in str(report)
    for variable, old in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, old)
    assert autodiff.check_gradients(model, X).held_fixed == []


def test_integers_are_held_fixed():
    report = autodiff.check_gradients(keras.layers.Embedding(5, 2), np.array([[0, 4], [1, 1]]))
    assert report.passed, report
    assert {entry.path.rpartition("/")[2] for entry in report.entries} == {"embeddings"}
    with pytest.raises(ValueError, match="integers have no derivative"):
        autodiff.check_gradients(keras.layers.Embedding(5, 2), np.array([[0]]), wrt="inputs")


def test_losses_of_keras():
    p, weights = np.abs(Y) / 3, np.array([1.0, 0.0, 2.0, 0.5])
    for loss in (
        keras.losses.BinaryCrossentropy(),
        keras.losses.Huber(delta=0.1),
        keras.losses.KLDivergence(reduction=None),
    ):
        report = autodiff.check_gradients(loss, p, p[::-1], sample_weight=weights)
        assert report.passed, report
        assert {entry.path for entry in report.entries} == {"y_pred"}


def test_the_report_in_words():
    report = autodiff.check_gradients(WrongGradient(of_kernel=2.0), X, entries=1, directions=1)
    lines = str(report).splitlines()
    assert lines[0].startswith("Gradient check FAILED: greatest error 0.5 of 4 derivatives")
    assert "kernel[" in lines[1] + lines[2]
    assert "kernel along a direction: analytic " in lines[1] + lines[2]


def test_bad_input():
    class Unseeded(keras.layers.Layer):
        def call(self, inputs):
            return inputs * tf.random.uniform((), dtype=inputs.dtype)

    dense = keras.layers.Dense(1)
    with pytest.raises(TypeError, match=r"`target` must be a Keras model, a layer or.*'mse'"):
        autodiff.check_gradients("mse", X, Y)
    with pytest.raises(ValueError, match=r"Two evaluations .* differ.*SeedGenerator"):
        autodiff.check_gradients(Unseeded(), X)
    with pytest.raises(ValueError, match=r"must be finite. Received: nan"):
        autodiff.check_gradients(dense, X * np.nan)
    with pytest.raises(ValueError, match=r"`float64`. Received: .* in float16"):
        autodiff.check_gradients(keras.layers.Dense(1, dtype="mixed_float16"), X)
    with pytest.raises(ValueError, match=r"`tolerance` must be greater than 0"):
        autodiff.check_gradients(dense, X, tolerance=0.0)
    with pytest.raises(ValueError, match=r"`wrt` must be one of"):
        autodiff.check_gradients(dense, X, wrt="bias")
    with pytest.raises(ValueError, match=r"`y` needs a loss: give `loss`, or compile"):
        autodiff.check_gradients(dense, X, Y)
    with pytest.raises(ValueError, match=r"`loss` is for models"):
        autodiff.check_gradients(keras.losses.MeanSquaredError(), Y, Y, loss="mse")
    with pytest.raises(ValueError, match=r"`y` must be given"):
        autodiff.check_gradients(keras.losses.MeanSquaredError(), X)


def test_every_name_of_what_has_no_gradient_is_a_case():
    names = {case.name for case in contract_cases.LOSSES}
    assert {*WITHOUT_GRADIENT, *PARTLY_CONSTANT} <= names
    # Parts of others, and one that has a test of its own.
    parts = {"DivergenceWeight", "ExponentiatedQuadraticKernel"}
    checked = {*OF_ANOTHER_KIND, *parts, "SobolevTraining"}
    assert checked == set(contract_cases.OF_ANOTHER_KIND)
    names = [case.name for case in contract_cases.LAYERS]
    assert all(any(part in name for name in names) for part in IN_FLOAT32)
