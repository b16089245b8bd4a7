"""Step sizes by trial in MonteCarloOptimizer, and which losses they are for."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_extras.losses import ZeroOneLoss
from keras_extras.optimizers import MonteCarloOptimizer
from keras_extras.optimizers.plane_search import PlaneSearch

pytestmark = pytest.mark.both_backends

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 6)).astype("float32") * np.array([1, 1, 3, 1, 0.3, 1], "float32")
Y = (X @ RNG.normal(size=(6, 1)) + 2.0).astype("float32")
NOISY_Y = Y + RNG.normal(size=Y.shape).astype("float32")


def make_model(loss="mse", last=None, hidden=(), **arguments):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), *hidden, last or layers.Dense(1)])
    model.compile(MonteCarloOptimizer(population_size=64, seed=1, **arguments), loss)
    return model


def fit(model, updates, x=X, y=Y, batch_size=96):
    epochs = -(-updates * batch_size // len(x))
    return model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0).history["loss"]


def says(model, kind):
    return f"loss {kind}" in repr(model.optimizer)


def test_least_squares_in_few_updates_without_arguments():
    model = make_model()
    losses = fit(model, 60)
    assert not says(model, "noisy")
    assert losses[-1] < 1e-6 * losses[0]
    # Each update but the first moves to what is better, or stays.
    assert np.all(np.diff(losses[2:]) <= 1e-6 * losses[0])


def test_the_unit_of_a_problem_does_not_matter():
    losses = [fit(make_model(), 60, X, scale * Y) for scale in (1e-3, 1e3)]
    for history in losses:
        assert history[-1] < 1e-4 * history[0]


def test_a_network_of_two_layers_fits_closer_than_with_a_learning_rate():
    x = np.linspace(-3, 3, 96, dtype="float32")[:, None] * np.ones(6, "float32")
    hidden = layers.Dense(8, "tanh")
    ours = fit(make_model(hidden=[hidden]), 100, x, np.sin(x[:, :1]))
    hidden = layers.Dense(8, "tanh")
    given = fit(make_model(hidden=[hidden], learning_rate=0.05), 100, x, np.sin(x[:, :1]))
    assert ours[-1] < 0.3 * given[-1]


@pytest.mark.parametrize(
    ("hidden", "arguments", "batch_size"),
    [
        ((), {}, 32),
        ((), {"generations_per_batch": 3}, 32),
        ((layers.Dropout(0.3),), {}, 96),
    ],
    ids=["batches", "generations", "dropout"],
)
def test_a_noisy_loss_is_found_out_at_once(hidden, arguments, batch_size):
    model = make_model(hidden=hidden, **arguments)
    fit(model, 6, X, NOISY_Y, batch_size)
    assert says(model, "noisy")


def test_batches_are_trained_on_by_adam_to_least_squares():
    model = make_model()
    fit(model, 480, X, NOISY_Y, batch_size=32)
    least = np.linalg.lstsq(np.c_[X, np.ones(96)], NOISY_Y, rcond=None)[1][0] / 96
    assert model.evaluate(X, NOISY_Y, verbose=0) < 1.05 * least


@pytest.mark.parametrize(("size", "first"), [(0.0, 0.05), (0.01, 0.02), (0.18, 0.06), (3.0, 0.1)])
def test_the_learning_rate_starts_from_the_size_of_kernels_and_falls(size, first):
    kernel = keras.Variable(np.full((6, 2), size, "float32"))
    bias = keras.Variable(np.full(2, 0.7, "float32"))
    optimizer = MonteCarloOptimizer(population_size=16, seed=1)  # Too small for planes.
    for step in range(3):
        optimizer.minimize(lambda: ops.sum(kernel**2) + ops.sum(bias**2), [kernel, bias])
        rate = float(optimizer.learning_rate)
        assert rate == pytest.approx(first / np.sqrt(1 + step / 50), rel=1e-5)
    optimizer.iterations.assign(100_000)
    optimizer.minimize(lambda: ops.sum(kernel**2) + ops.sum(bias**2), [kernel, bias])
    assert float(optimizer.learning_rate) == pytest.approx(0.005)


def test_the_learning_rate_starts_where_noise_is_found():
    model = make_model()
    fit(model, 3, batch_size=32)
    rate = float(model.optimizer._first_rate)
    fit(model, 9, batch_size=32)
    # The first update is no step of Adam: it looks for noise.
    steps = int(model.optimizer.iterations) - 1
    expected = rate / np.sqrt(1 + (steps - 1) / 50)
    assert float(model.optimizer.learning_rate) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("batch_size", [32, 96])
def test_adam_follows_an_assigned_learning_rate(batch_size):
    model = make_model(keep="current")
    fit(model, 6, batch_size=batch_size)
    before = model.get_weights()
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-5)
    model.fit(X, Y, batch_size=batch_size, epochs=2, callbacks=[schedule], verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-5)
    for one, other in zip(before, model.get_weights()):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    "arguments",
    [
        {"learning_rate": 0.05},
        {"sigma": 0.1},
        {"weight_decay": 0.01},
        {"clipnorm": 1.0},
        {"use_ema": True, "keep": "current"},
        {"noise": "low_rank"},
        {"population_size": 16},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_what_an_argument_asks_of_steps_leaves_them_to_adam(arguments):
    optimizer = MonteCarloOptimizer(**{"population_size": 64, **arguments})
    optimizer.build([keras.Variable(np.zeros(3, "float32"))])
    assert "loss" not in repr(optimizer)
    plain = MonteCarloOptimizer(population_size=64)
    plain.build([keras.Variable(np.zeros(3, "float32"))])
    assert "loss unsure" in repr(plain)


def test_losses_in_steps_give_the_best_candidate_that_was_seen():
    labels = (NOISY_Y > 2.0).astype("float32")
    model = make_model(ZeroOneLoss(threshold=0.0))
    losses = fit(model, 60, X, labels)
    assert says(model, "tied")
    assert losses[-1] == min(losses)
    assert model.evaluate(X, labels, batch_size=96, verbose=0) == pytest.approx(losses[-1])
    linear = np.c_[X, np.ones(96)] @ np.linalg.lstsq(np.c_[X, np.ones(96)], NOISY_Y - 2.0)[0]
    assert losses[-1] <= np.mean((linear > 0) != (labels > 0.5))


def test_a_loss_in_steps_on_batches_is_noisy():
    model = make_model(ZeroOneLoss(threshold=0.0))
    fit(model, 12, X, (NOISY_Y > 2.0).astype("float32"), batch_size=32)
    assert says(model, "noisy")


def test_other_data_and_other_weights_are_no_noise():
    model = make_model()
    fit(model, 30)
    fit(model, 30, X, Y - 1.0)
    assert not says(model, "noisy")
    assert model.evaluate(X, Y - 1.0, verbose=0) < 1e-3
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    losses = fit(model, 40)
    assert not says(model, "noisy")
    assert losses[-1] < 1e-3


def test_constraints_hold_and_leave_the_loss_exact():
    last = layers.Dense(1, kernel_constraint="non_neg")
    model = make_model(last=last)
    losses = fit(model, 80)
    assert not says(model, "noisy")
    assert np.all(model.get_weights()[0] >= 0)
    from scipy.optimize import nnls

    design = np.c_[X, np.ones(96), -np.ones(96)]
    least = nnls(design, Y[:, 0])[1] ** 2 / 96
    assert losses[-1] < 1.02 * least


def test_a_run_that_is_saved_and_loaded_goes_on(tmp_path):
    whole, begun = make_model(), make_model()
    fit(whole, 20)
    fit(begun, 12)
    begun.save(tmp_path / "begun.keras")
    loaded = keras.saving.load_model(tmp_path / "begun.keras")
    config = loaded.optimizer.get_config()
    assert config["learning_rate"] is None
    assert config["sigma"] is None
    fit(loaded, 8)
    for one, other in zip(whole.get_weights(), loaded.get_weights()):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_several_steps_in_an_execution_come_to_the_same():
    one, several = make_model(), make_model()
    several.compile(MonteCarloOptimizer(population_size=64, seed=1), "mse", steps_per_execution=4)
    x, y = np.tile(X, (8, 1)), np.tile(Y, (8, 1))
    for model in (one, several):
        model.fit(x, y, batch_size=96, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(one.get_weights()[0], several.get_weights()[0], rtol=1e-4)


def test_a_quarter_of_the_candidates_are_in_planes_and_none_where_the_loss_is_noisy():
    w = keras.Variable(np.zeros(3, "float32"))
    optimizer = MonteCarloOptimizer(population_size=64, seed=1)
    optimizer.build([w])
    plane = optimizer._plane
    assert isinstance(plane, PlaneSearch)
    plane.begin(pairs=32, chunk=8)
    index = np.arange(32)
    assert int(ops.sum(ops.cast(plane.is_in_plane(index), "int32"))) == 8
    plane._mode.assign(3)
    assert int(ops.sum(ops.cast(plane.is_in_plane(index), "int32"))) == 0


def test_losses_that_are_not_finite_far_away_do_no_harm():
    def loss(y, y_pred):
        return ops.mean(ops.exp(y_pred * 4.0) - 4.0 * y * y_pred)

    model = make_model(loss)
    losses = fit(model, 60, X, np.exp(0.1 * X[:, :1]))
    assert np.all(np.isfinite(losses))
    assert not says(model, "noisy")
    assert losses[-1] < losses[0]


def test_a_population_that_chunks_do_not_divide_tries_step_sizes():
    w = keras.Variable(np.full(20, 100.0, "float32"), name="w")
    optimizer = MonteCarloOptimizer(population_size=50, keep="current", curvature=None, seed=0)
    for _ in range(20):
        optimizer.minimize(lambda: ops.sum(w**2), [w])
    assert float(ops.max(ops.abs(w))) < 50


def test_a_batch_without_a_finite_loss_leaves_an_exact_loss_exact():
    w = keras.Variable(np.full(20, 1.0, "float32"), name="w")
    optimizer = MonteCarloOptimizer(population_size=32, curvature=None, seed=0)
    for factor in (1.0, float("nan"), 1.0, 1.0):
        optimizer.minimize(lambda factor=factor: factor * ops.sum(w**2), [w])
    assert "loss exact" in repr(optimizer)
