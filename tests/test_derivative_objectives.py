"""Objectives with derivatives of the network inside: closed forms, finite differences, training."""

import keras
import numpy as np
import pytest
from contract_support import assert_equal, saved_and_loaded
from keras import layers, ops
from precision import WIDE, needs_tensorflow, tolerance
from tiers import UNCOMPILED

from keras_extras._core.differentiation import value_and_gradients
from keras_extras.layers import (
    GradientPenalty,
    IndependentNormal,
    SensitivityPenalty,
    SobolevTraining,
)

pytestmark = pytest.mark.both_backends

WIDTH = 4
RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(6, WIDTH))
DIRECTIONS = RNG.normal(size=(3, WIDTH))


@keras.saving.register_keras_serializable(__name__)
class Quadratic(layers.Layer):
    """The quadratic form x' A x."""

    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(WIDTH, WIDTH), initializer="random_normal")

    def call(self, inputs):
        return ops.sum(inputs * ops.matmul(inputs, self.matrix), axis=-1, keepdims=True)


@keras.saving.register_keras_serializable(__name__)
class HasALoss(layers.Layer):
    def call(self, inputs):
        self.add_loss(0.01 * ops.mean(inputs**2))
        return inputs


@keras.saving.register_keras_serializable(__name__)
def rotation(x):
    return ops.stack([-x[:, 1], x[:, 0]], axis=1)


@keras.saving.register_keras_serializable(__name__)
def shift_and_scale(x):
    return [ops.ones_like(x), x]


def quadratic_gradients(network, x):
    matrix = np.asarray(network.matrix)
    return x @ (matrix + matrix.T)


def penalty_of(wrapper, x=ROWS):
    wrapper(x)
    (loss,) = wrapper.losses
    return float(loss)


def test_sensitivity_of_a_linear_network_is_that_of_its_kernel():
    wrapper = SensitivityPenalty(layers.Dense(2, dtype=WIDE), DIRECTIONS, weight=0.7)
    value = penalty_of(wrapper)
    changes = wrapper.directions @ np.asarray(wrapper.layer.kernel)
    assert value == pytest.approx(0.7 * np.sum(changes**2), rel=tolerance(1e-6, 1e-5))


def test_sensitivity_of_a_quadratic_network_along_fixed_and_given_directions():
    fixed = SensitivityPenalty(Quadratic(dtype=WIDE), DIRECTIONS)
    value = penalty_of(fixed)
    slopes = quadratic_gradients(fixed.layer, ROWS) @ DIRECTIONS.T
    assert value == pytest.approx(np.mean(np.sum(slopes**2, axis=1)), rel=tolerance(1e-6, 1e-5))

    given = SensitivityPenalty(Quadratic(dtype=WIDE), shift_and_scale)
    value = penalty_of(given)
    gradients = quadratic_gradients(given.layer, ROWS)
    squares = np.sum(gradients, axis=1) ** 2 + np.sum(gradients * ROWS, axis=1) ** 2
    assert value == pytest.approx(np.mean(squares), rel=tolerance(1e-6, 1e-5))


@pytest.mark.parametrize("target_norm", [0.0, 0.6])
def test_gradient_norms_of_linear_and_quadratic_networks(target_norm):
    linear = GradientPenalty(layers.Dense(3, dtype=WIDE), 0.5, target_norm)
    value = penalty_of(linear)
    norm = np.linalg.norm(np.asarray(linear.layer.kernel))
    assert value == pytest.approx(0.5 * (norm - target_norm) ** 2, rel=tolerance(1e-6, 1e-5))

    quadratic = GradientPenalty(Quadratic(dtype=WIDE), 0.5, target_norm)
    value = penalty_of(quadratic)
    norms = np.linalg.norm(quadratic_gradients(quadratic.layer, ROWS), axis=1)
    assert value == pytest.approx(
        0.5 * np.mean((norms - target_norm) ** 2), rel=tolerance(1e-6, 1e-5)
    )


def test_random_projections_estimate_the_square_without_bias():
    keras.utils.set_random_seed(3)
    network = layers.Dense(5)
    rows = np.zeros((20_000, WIDTH), "float32")
    estimator = GradientPenalty(network, num_projections=2, seed=1)
    exact = GradientPenalty(network)
    draws = [penalty_of(estimator, rows) for _ in range(2)]
    assert draws[0] != draws[1]
    kernel = np.asarray(network.kernel)
    # For v on the sphere in 5 dimensions, E(v_i^2 v_j^2) = (1 + 2 [i = j]) / 35.
    gram = kernel.T @ kernel
    square = 25 * (np.trace(gram) ** 2 + 2 * np.sum(gram**2)) / 35
    stddev = np.sqrt((square - np.trace(gram) ** 2) / 2 / len(rows))
    for draw in draws:
        assert abs(draw - penalty_of(exact, rows)) < 4 * stddev
    assert stddev < 0.01 * draws[0]


def test_one_output_needs_no_random_projections():
    network = Quadratic()
    exact, projected = (penalty_of(GradientPenalty(network, num_projections=k)) for k in (None, 3))
    assert projected == pytest.approx(exact, rel=1e-5)


def float64_network(*norms):
    return keras.Sequential(
        [
            keras.Input((WIDTH,), dtype=WIDE),
            layers.Dense(5, "tanh", dtype=WIDE),
            *norms,
            layers.Dense(2, "softplus", dtype=WIDE),
        ]
    )


@pytest.mark.parametrize("norms", [(), (layers.LayerNormalization,)])
@pytest.mark.parametrize(
    "make",
    [
        lambda network: SensitivityPenalty(network, DIRECTIONS, weight=0.3),
        lambda network: SensitivityPenalty(network, shift_and_scale),
        lambda network: GradientPenalty(network),
        lambda network: GradientPenalty(network, target_norm=1.0),
    ],
)
def test_gradients_of_penalties_are_those_of_finite_differences(make, norms):
    wrapper = make(float64_network(*(norm(dtype=WIDE) for norm in norms)))
    rows = ops.convert_to_tensor(ROWS, WIDE)
    wrapper.build(rows.shape)
    variables = wrapper.trainable_variables

    def penalty(values):
        *_, (loss,) = wrapper.stateless_call(values, [], rows, return_losses=True)
        return loss

    _, gradients = value_and_gradients(penalty, [ops.copy(v) for v in variables])
    step = tolerance(1e-5, 1e-2)
    for variable, gradient in zip(variables, gradients):
        values = np.array(variable)
        expected = np.zeros_like(values)
        for index in np.ndindex(values.shape):
            losses = []
            for sign in (1, -1):
                moved = values.copy()
                moved[index] += sign * step
                variable.assign(moved)
                losses.append(penalty_of(wrapper))
            expected[index] = (losses[0] - losses[1]) / (2 * step)
        variable.assign(values)
        np.testing.assert_allclose(
            gradient, expected, rtol=tolerance(1e-6, 1e-2), atol=tolerance(1e-8, 1e-3)
        )


@pytest.mark.parametrize(
    "wrap",
    [lambda network: SensitivityPenalty(network, np.ones((2, 1))), GradientPenalty],
)
def test_the_network_is_called_once_as_if_it_stood_alone(wrap):
    network = keras.Sequential(
        [layers.Dropout(0.5, seed=1), layers.Dense(1, use_bias=False), HasALoss()]
    )
    wrapper = wrap(network)
    x = np.ones((50, 1), "float32")
    output = np.asarray(wrapper(x, training=True))
    assert 0 < np.count_nonzero(output) < 50
    penalty, own = sorted(map(float, wrapper.losses), reverse=True)
    assert own == pytest.approx(0.01 * np.mean(output**2), rel=1e-5)
    directions = getattr(wrapper, "directions", [1])
    assert penalty == pytest.approx(len(directions) * np.mean(output**2), rel=1e-5)
    assert_equal(wrapper(x), network(x), "Another output")

    alone, wrapped = layers.BatchNormalization(), layers.BatchNormalization()
    rows = ROWS[:, :1].astype("float32")
    alone(rows, training=True)
    wrap(wrapped)(rows, training=True)
    assert_equal(wrapped.moving_mean, alone.moving_mean, "Statistics are updated twice")


def test_a_wrapped_model_trains_saves_and_loads_in_safe_mode():
    network = keras.Sequential(
        [layers.Dense(6, "tanh"), layers.LayerNormalization(), layers.Dense(1)], name="network"
    )
    wrapper = SensitivityPenalty(network, rotation, weight=0.1)
    model = keras.Sequential(
        [keras.Input((2,)), GradientPenalty(wrapper, num_projections=1, seed=2)]
    )
    model.compile("adam", "mse", **UNCOMPILED)
    x = ROWS[:, :2].astype("float32")
    model.fit(x, x[:, :1], verbose=0)
    loaded = saved_and_loaded(model)
    assert_equal(loaded.predict(x, verbose=0), network.predict(x, verbose=0), "Other predictions")
    inner = loaded.layers[0].layer
    assert type(inner) is SensitivityPenalty
    assert inner.directions is rotation
    loaded(x)
    model(x)
    assert len(loaded.losses) == 2
    assert_equal(loaded.losses[1], model.losses[1], "Another penalty after loading")


@pytest.mark.slow
def test_recurrent_networks_and_images():
    sequences = RNG.normal(size=(6, 4, 3)).astype("float32")
    images = RNG.normal(size=(6, 6, 6, 1)).astype("float32")
    recurrent = keras.Sequential([keras.Input((4, 3)), layers.GRU(3), layers.Dense(1)])
    convolution = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(2, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    for network, x in ((recurrent, sequences), (convolution, images)):
        direction = RNG.normal(size=x.shape[1:])
        wrapper = SensitivityPenalty(network, direction[None])
        model = keras.Sequential([keras.Input(x.shape[1:]), wrapper])
        step = 1e-2 * direction.astype("float32")
        changes = (np.asarray(network(x + step)) - np.asarray(network(x - step))) / 2e-2
        assert penalty_of(wrapper, x) == pytest.approx(np.mean(changes**2), rel=2e-2)
        model.compile("sgd", "mse")
        losses = model.fit(x, np.asarray(network(x)), epochs=2, verbose=0).history["loss"]
        assert losses[1] < losses[0]


def test_masks_reach_the_network():
    embedded = layers.Embedding(9, 4, mask_zero=True)(np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]]))
    network = layers.LSTM(3)
    masked = SensitivityPenalty(network, np.ones((1, 5, 4)))(embedded)
    assert_equal(masked, network(embedded), "The mask is lost")
    assert not np.allclose(masked, network(np.asarray(embedded)))
    dense, above = layers.Dense(3), layers.LSTM(2)
    wrapped = SensitivityPenalty(dense, np.ones((1, 5, 4)))
    assert_equal(above(wrapped(embedded)), above(dense(embedded)), "The mask is not passed on")


def invariant_target(x):
    return np.sin(2 * np.linalg.norm(x, axis=1, keepdims=True))


def test_a_network_trained_with_the_penalty_is_more_invariant_and_learns_from_fewer_rows():
    rng = np.random.default_rng(0)
    x, x_test = (rng.normal(size=(n, 2)).astype("float32") for n in (30, 500))
    y = invariant_target(x)
    angle = 0.2
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], "float32")
    errors, changes = [], []
    for weight in (0.0, 0.1):
        keras.utils.set_random_seed(1)
        network = keras.Sequential([layers.Dense(24, "tanh"), layers.Dense(1)])
        model = keras.Sequential(
            [keras.Input((2,)), SensitivityPenalty(network, rotation, weight=weight)]
        )
        model.compile(keras.optimizers.Adam(0.02), "mse", steps_per_execution=50)
        data = np.tile(x, (400, 1)), np.tile(y, (400, 1))
        model.fit(*data, batch_size=30, shuffle=False, verbose=0)
        predicted = network.predict(x_test, verbose=0)
        errors.append(np.mean((predicted - invariant_target(x_test)) ** 2))
        turned = network.predict(x_test @ turn, verbose=0)
        changes.append(np.mean((turned - predicted) ** 2))
    assert changes[1] < 0.3 * changes[0]
    assert errors[1] < 0.7 * errors[0]


def test_values_and_derivatives_have_closed_forms_and_documented_shapes():
    linear = layers.Dense(3, dtype=WIDE)
    outputs = SobolevTraining(linear)(ROWS)
    kernel = np.asarray(linear.kernel)
    assert outputs["derivative"].shape == (6, 3, WIDTH)
    np.testing.assert_allclose(outputs["value"], np.asarray(linear(ROWS)))
    np.testing.assert_allclose(outputs["derivative"], np.tile(kernel.T, (6, 1, 1)), rtol=1e-7)

    along = SobolevTraining(linear, DIRECTIONS)(ROWS)["derivative"]
    np.testing.assert_allclose(along, np.tile(DIRECTIONS @ kernel, (6, 1, 1)), rtol=1e-6)

    quadratic = Quadratic(dtype=WIDE)
    gradient = SobolevTraining(quadratic)(ROWS)["derivative"]
    np.testing.assert_allclose(
        gradient, quadratic_gradients(quadratic, ROWS), rtol=tolerance(1e-9, 1e-4)
    )
    along = SobolevTraining(quadratic, shift_and_scale)(ROWS)["derivative"]
    assert along.shape == (6, 2)
    np.testing.assert_allclose(
        along[:, 1], 2 * np.asarray(quadratic(ROWS))[:, 0], rtol=tolerance(1e-9, 1e-4)
    )

    for wrapper in (SobolevTraining(layers.Dense(1)), SobolevTraining(layers.Dense(2), rotation)):
        symbolic = wrapper(keras.Input((2,)))
        actual = wrapper(ROWS[:, :2].astype("float32"))
        for name, tensor in actual.items():
            assert symbolic[name].shape == (None, *tensor.shape[1:])
        shapes = wrapper.compute_output_shape((6, 2))
        assert shapes == {name: tuple(tensor.shape) for name, tensor in actual.items()}


def test_sobolev_training_fits_a_function_from_fewer_points():
    x = np.linspace(-3, 3, 7, dtype="float32")[:, None]
    grid = np.linspace(-3, 3, 200, dtype="float32")[:, None]
    errors = []
    for weight in (0.0, 1.0):
        keras.utils.set_random_seed(1)
        network = keras.Sequential([layers.Dense(24, "tanh"), layers.Dense(1)])
        inputs = keras.Input((1,))
        model = keras.Model(inputs, SobolevTraining(network)(inputs))
        model.compile(
            keras.optimizers.Adam(0.02),
            loss={"value": "mse", "derivative": "mse"},
            loss_weights={"value": 1.0, "derivative": weight},
            steps_per_execution=50,
        )
        tiled = np.tile(x, (500, 1))
        targets = {"value": np.sin(2 * tiled), "derivative": 2 * np.cos(2 * tiled)}
        history = model.fit(tiled, targets, batch_size=7, shuffle=False, verbose=0).history
        assert {"value_loss", "derivative_loss"} < set(history)
        errors.append(np.mean((network.predict(grid, verbose=0) - np.sin(2 * grid)) ** 2))
    assert errors[1] < 0.1 * errors[0]
    loaded = saved_and_loaded(model)
    for name, values in model.predict(x, verbose=0).items():
        assert_equal(loaded.predict(x, verbose=0)[name], values, name)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_sobolev_training_in_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    network = keras.Sequential([layers.Dense(8, "tanh"), layers.Dense(1, dtype="float32")])
    inputs = keras.Input((WIDTH,))
    model = keras.Model(inputs, SobolevTraining(network, DIRECTIONS)(inputs))
    model.compile("adam", {"value": "mse", "derivative": "mse"})
    targets = {"value": np.zeros((6, 1)), "derivative": np.zeros((6, 3))}
    before = network.get_weights()
    # In float16 the scale of the loss comes down in the first steps, which change no weight.
    history = model.fit(ROWS.astype("float32"), targets, epochs=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert not np.array_equal(network.get_weights()[0], before[0])


def two_outputs():
    inputs = keras.Input((WIDTH,))
    return keras.Model(inputs, [layers.Dense(1)(inputs), layers.Dense(1)(inputs)])


@keras.saving.register_keras_serializable(__name__)
class Rounded(layers.Layer):
    def call(self, inputs):
        return ops.round(inputs)


@keras.saving.register_keras_serializable(__name__)
def first_column(x):
    return x[:, :1]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SensitivityPenalty(layers.Dense(1), [1.0, 2.0]), ValueError, r"shape \(number"),
        (lambda: SensitivityPenalty(layers.Dense(1), "all"), ValueError, "Received: directions"),
        (
            lambda: SensitivityPenalty(layers.Dense(1), [[np.nan]]),
            ValueError,
            "array of finite numbers",
        ),
        (
            lambda: SensitivityPenalty(layers.Dense(1), DIRECTIONS, weight=-1),
            ValueError,
            "`weight` must be at least 0",
        ),
        (lambda: GradientPenalty(layers.Dense(1), target_norm=-1), ValueError, "`target_norm`"),
        (
            lambda: GradientPenalty(layers.Dense(1), target_norm=1, num_projections=1),
            ValueError,
            "needs a target of 0",
        ),
        (lambda: GradientPenalty(layers.Dense(1), num_projections=0), ValueError, "at least 1"),
        (lambda: SobolevTraining(layers.Dense(1), 3.0), ValueError, "`directions`"),
        (lambda: SobolevTraining("dense"), ValueError, "layer"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "dtype", "error", "message"),
    [
        (lambda: GradientPenalty(Rounded()), "float32", ValueError, "does not depend on them"),
        (lambda: GradientPenalty(layers.Embedding(9, 2)), "int32", TypeError, "inputs of floats"),
        (lambda: GradientPenalty(two_outputs()), "float32", TypeError, "is a list"),
        pytest.param(
            lambda: GradientPenalty(IndependentNormal((2,))),
            "float32",
            TypeError,
            "below a layer of distributions",
            marks=needs_tensorflow,
        ),
        (
            lambda: SensitivityPenalty(layers.Dense(1), np.ones((2, 3))),
            "float32",
            ValueError,
            r"here \(k, 4\).*shape=\(2, 3\)",
        ),
        (
            lambda: SensitivityPenalty(layers.Dense(1), first_column),
            "float32",
            ValueError,
            "tensor of the shape of the inputs",
        ),
        (lambda: SobolevTraining(Rounded()), "float32", ValueError, "rounding"),
    ],
)
def test_what_cannot_be_differentiated_is_told_when_the_model_is_put_together(
    make, dtype, error, message
):
    with pytest.raises(error, match=message):
        make()(keras.Input((WIDTH,), dtype=dtype))


@needs_tensorflow  # On JAX shapes are inferred with numbers in their place.
def test_derivatives_by_each_input_need_to_know_how_many_there_are():
    with pytest.raises(ValueError, match=r"known. Received: an input of shape \(None, None, 3\)"):
        SobolevTraining(layers.GlobalAveragePooling1D())(keras.Input((None, 3)))


def test_tensorflow_or_jax_is_needed(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ImportError, match=r"layers.GradientPenalty needs.*KERAS_BACKEND"):
        GradientPenalty(layers.Dense(1))
