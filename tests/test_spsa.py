"""SPSA."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from tiers import UNCOMPILED

from keras_extras.optimizers import SPSA, PartitionedOptimizer
from keras_extras.optimizers.simultaneous_perturbation import ReplayedDraw

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = (X @ np.random.default_rng(1).normal(size=(6, 2))).astype("float32")


def make_model(optimizer, hidden=(), **compile_arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(2)])
    model.compile(optimizer, "mse", **{**UNCOMPILED, **compile_arguments})
    return model


def test_a_draw_is_repeated_and_then_goes_on():
    generator = keras.random.SeedGenerator(3)
    draws = []
    for _ in range(2):
        draw = ReplayedDraw(lambda: keras.random.normal((4,), seed=generator), generator)
        first = draw()
        for number in (2.0, float("nan"), float("inf")):
            np.testing.assert_array_equal(draw(after=ops.convert_to_tensor(number)), first)
        draws.append(ops.convert_to_numpy(first))
    assert np.all(draws[0] != draws[1])


@pytest.mark.parametrize(
    ("noise", "jit_compile"),
    [
        ("orthogonal", False),
        pytest.param("sign", True, marks=pytest.mark.slow),
        pytest.param("normal", False, marks=pytest.mark.slow),
        pytest.param("low_rank", True, marks=pytest.mark.slow),
    ],
)
def test_reaches_least_squares(noise, jit_compile):
    schedule = keras.optimizers.schedules.PolynomialDecay(0.03, 600, 1e-4)
    optimizer = SPSA(schedule, generations_per_batch=10, noise=noise, sigma=0.01, seed=2)
    model = make_model(optimizer, jit_compile=jit_compile)
    model.fit(X, Y, batch_size=64, epochs=60, verbose=0)
    assert model.evaluate(X, Y, verbose=0) < 0.02 * np.mean(Y**2)


def test_a_step_is_along_one_direction_scaled_by_its_slope():
    w = keras.Variable(np.array([2.0, -1.0, 0.5], "float32"))
    optimizer = SPSA(0.1, sigma=0.01, seed=5)
    before = w.numpy()
    optimizer.minimize(lambda: ops.sum(w**2), [w])
    step = w.numpy() - before
    # The first slope is its own root mean square: a step of 0.1 in each weight, downhill.
    np.testing.assert_allclose(np.abs(step), 0.1, rtol=1e-3)
    assert step @ before < 0
    # The next slope is weighed against both.
    slopes = [-(step / 0.1) @ (2 * before)]
    before = w.numpy()
    optimizer.minimize(lambda: ops.sum(w**2), [w])
    step = w.numpy() - before
    slopes.append(np.sign(step) @ (2 * before))
    mean_square = (0.001 * slopes[1] ** 2 + 0.000999 * slopes[0] ** 2) / (1 - 0.999**2)
    size = 0.1 * abs(slopes[1]) / np.sqrt(mean_square)
    np.testing.assert_allclose(np.abs(step), size, rtol=2e-3)


def test_keeps_no_copy_of_the_weights():
    optimizer = SPSA()
    model = make_model(optimizer)
    model.fit(X, Y, verbose=0)
    assert optimizer.keep == "current"
    assert all(len(v.shape) == 0 or v.shape == (2,) for v in optimizer.variables)


def test_logs_show_the_mean_of_both_candidates():
    """Both lie on a line with the weights, which does not matter to a linear loss."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(2, use_bias=False)])
    model.compile(
        SPSA(0.01, seed=0),
        lambda y, y_pred: ops.mean(y_pred - y),
        metrics=["mean_absolute_error"],
    )
    before = np.mean(model.predict(X, verbose=0) - Y)
    logs = model.train_on_batch(X, Y, return_dict=True)
    np.testing.assert_allclose(logs["loss"], before, atol=1e-5)
    assert 0 < logs["mean_absolute_error"] < 10


def test_moving_statistics_and_random_layers():
    hidden = [layers.BatchNormalization(momentum=0.5), layers.Dropout(0.5, seed=1)]
    model = make_model(SPSA(0.001, sigma=0.001, seed=0), hidden)
    seed = hidden[1].seed_generator.state
    model.fit(X + 3.0, Y, batch_size=32, epochs=1, shuffle=False, verbose=0)
    mean = 0.5 * (0.5 * X[:32].mean(0) + 1.5) + 0.5 * (X[32:].mean(0) + 3.0)
    np.testing.assert_allclose(hidden[0].moving_mean.numpy(), mean, rtol=1e-3)
    assert seed.numpy()[1] == 2


def test_a_run_is_repeated_and_continued_exactly(tmp_path):
    def fit(model, epochs, initial_epoch=0):
        options = {"batch_size": 16, "shuffle": False, "verbose": 0}
        model.fit(X, Y, epochs=epochs, initial_epoch=initial_epoch, **options)

    def optimizer():
        return SPSA(0.01, generations_per_batch=2, seed=7)

    whole = make_model(optimizer())
    fit(whole, 4)
    half = make_model(optimizer())
    fit(half, 2)
    half.save(tmp_path / "half.keras")
    half = keras.models.load_model(tmp_path / "half.keras")
    fit(half, 4, initial_epoch=2)
    for a, b in zip(whole.weights, half.weights):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_nan_leaves_the_weights_as_they_were():
    model = make_model(SPSA())
    model.fit(X, Y, verbose=0)
    before = model.get_weights()
    with pytest.raises(ValueError, match="each pair of candidates"):
        model.fit(np.full_like(X, np.nan), Y, verbose=0)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_the_best_of_all_candidates_may_be_kept():
    optimizer = SPSA(0.05, sigma=0.1, keep="best", seed=0)
    model = make_model(optimizer)
    losses = model.fit(X, Y, batch_size=64, epochs=60, verbose=0)
    assert model.evaluate(X, Y, verbose=0) <= min(losses.history["loss"]) + 1e-5


def test_is_one_part_of_several():
    parts = {"*/kernel": SPSA(0.02, sigma=0.01, seed=0), "*": keras.optimizers.Adam(0.02)}
    model = make_model(PartitionedOptimizer(parts), steps_per_execution=2)
    before = model.evaluate(X, Y, verbose=0)
    model.fit(X, Y, batch_size=16, epochs=20, verbose=0)
    assert model.evaluate(X, Y, verbose=0) < 0.9 * before
