"""SearchMonitor: what it records of searches whose course is known, and that it changes nothing."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from tiers import UNCOMPILED

from keras_extras import visualization
from keras_extras.callbacks import SearchMonitor
from keras_extras.optimizers import CMAES, MonteCarloOptimizer, PartitionedOptimizer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 4)).astype("float32")
Y = (X @ RNG.normal(size=(4, 1)) + 0.5).astype("float32")
NAMES = {"update", "loss", "center_loss", "best_loss", "better_share", "width", "step"}
NAMES |= {"nonfinite_candidates"}


def make_model(optimizer, loss="mse", **options):
    keras.utils.set_random_seed(1)
    hidden = layers.Dense(6, activation="tanh", name="hidden")
    model = keras.Sequential(
        [keras.Input((4,)), hidden, layers.Dropout(0.1, seed=5), layers.Dense(1, name="head")]
    )
    model.compile(optimizer, loss, **{**UNCOMPILED, **options})
    return model


def fit(model, *callbacks, epochs=3, **options):
    options = {"batch_size": 32, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **options)


def history_of(optimizer, loss="mse", every=None, epochs=3, compile_options=None, **options):
    monitor = SearchMonitor(every)
    model = make_model(optimizer, loss, **(compile_options or {}))
    logs = fit(model, monitor, epochs=epochs, **options).history
    return monitor.history, logs


RECORDED = {"better_candidates", "center_loss", "best_loss", "better_share", "step"}


def monte_carlo(**arguments):
    return MonteCarloOptimizer(**{"population_size": 32, "seed": 0, **arguments})


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: monte_carlo(generations_per_batch=2, chunk_size=12), {}),
        (lambda: monte_carlo(), {"run_eagerly": True}),
        pytest.param(
            lambda: CMAES(restarts=1, keep="best", seed=0),
            {"jit_compile": True},
            marks=pytest.mark.slow,
        ),
        (lambda: PartitionedOptimizer({"head/*": monte_carlo(), "*": "adam"}), {}),
    ],
    ids=["monte_carlo", "eager", "cma_es", "partitioned"],
)
def test_watching_changes_nothing_and_records_each_epoch(make, options):
    alone, watched = make_model(make(), **options), make_model(make(), **options)
    monitor = SearchMonitor()
    fit(alone)
    logs = fit(watched, monitor).history
    for u, v in zip(
        [*alone.weights, *alone.optimizer.variables],
        [*watched.weights, *watched.optimizer.variables],
        strict=True,
    ):
        if v.name not in RECORDED:
            np.testing.assert_array_equal(u.numpy(), v.numpy(), err_msg=u.path)
    history = monitor.history
    assert set(history) - {"axis_ratio"} == NAMES
    assert ("axis_ratio" in history) == isinstance(watched.optimizer, CMAES)
    assert all(len(values) == 3 and np.isfinite(values).all() for values in history.values())
    np.testing.assert_allclose(history["loss"], logs["loss"])
    assert np.diff(history["update"]).tolist() == [history["update"][0]] * 2


def test_a_slope_a_bowl_and_a_plain_are_told_apart_by_the_share_of_better_candidates():
    def share(loss, **arguments):
        w = keras.Variable(np.zeros(50, "float32"), name="w")
        optimizer = monte_carlo(population_size=256, sigma=0.1, keep="current", **arguments)
        optimizer.watch_search(True)
        optimizer.minimize(lambda: loss(w), [w])
        return optimizer.search_state()

    slope = share(lambda w: ops.sum(w))
    assert slope["better_share"] == pytest.approx(0.5, abs=0.1)
    bowl = share(lambda w: ops.sum(w**2))
    assert bowl["better_share"] == 0
    assert bowl["center_loss"] == 0
    assert bowl["best_loss"] == pytest.approx(50 * 0.1**2, rel=1e-5)
    plain = share(lambda w: ops.sum(ops.round(w)))
    assert (plain["better_share"], plain["step"]) == (0, 0)


@pytest.mark.parametrize(
    "optimizer", [monte_carlo(num_prior_samples=0), CMAES(generations_per_batch=1, seed=0)]
)
def test_the_center_and_the_best_are_those_of_the_last_batch(optimizer):
    w = keras.Variable([1.0, -2.0], name="w")
    optimizer.watch_search(True)
    optimizer.minimize(lambda: ops.sum(w**2), [w])
    state = optimizer.search_state()
    assert state["center_loss"] == pytest.approx(5.0)
    assert state["best_loss"] < 5.0
    assert 0 < state["better_share"] < 1


def test_the_width_falls_as_documented_and_the_step_is_that_of_the_center():
    w = keras.Variable([1.0, -2.0, 3.0], name="w")
    optimizer = monte_carlo(
        sigma=0.3, sigma_decay_power=0.5, update_probability=0.25, keep="current"
    )
    optimizer.watch_search(True)
    for update in range(1, 4):
        before = w.numpy()
        optimizer.minimize(lambda: ops.sum(w**2), [w])
        state = optimizer.search_state()
        assert state["width"] == pytest.approx(0.3 / update**0.5 * 0.5, rel=1e-5)
        rms = np.sqrt(np.mean((w.numpy() - before) ** 2))
        assert state["step"] == pytest.approx(rms, rel=1e-3)


@pytest.mark.slow
def test_the_axes_of_a_narrow_valley_are_learnt():
    w = keras.Variable([1.0, 1.0], name="w")
    optimizer = CMAES(sigma=0.5, seed=0)
    assert optimizer.search_state()["axis_ratio"] == 1
    assert optimizer.search_state()["width"] == 0.5
    for _ in range(10):
        optimizer.minimize(lambda: w[0] ** 2 + 1e4 * w[1] ** 2, [w])
    state = optimizer.search_state()
    assert 30 < state["axis_ratio"] < 300
    assert state["width"] < 0.05
    assert np.isnan(state["center_loss"])  # It was not watched.


@pytest.mark.both_backends
def test_records_at_batches():
    assert history_of(monte_carlo(), every=2)[0]["update"] == [2, 4, 6, 8]
    assert history_of(monte_carlo(), every=1)[0]["update"] == list(range(1, 10))
    in_threes = {"steps_per_execution": 3}
    assert history_of(monte_carlo(), every=2, compile_options=in_threes)[0]["update"] == [3, 6, 9]


def test_nonfinite_candidates_are_counted_from_record_to_record():
    def fragile(y, y_pred):
        is_far = ops.max(ops.abs(y_pred)) > limit
        return ops.where(is_far, float("nan"), ops.mean((y - y_pred) ** 2))

    untrained = make_model(monte_carlo())(X, training=True)
    limit = 1.1 * float(ops.max(ops.abs(untrained)))
    history, logs = history_of(monte_carlo(), fragile, batch_size=96, epochs=4)
    counts = history["nonfinite_candidates"]
    assert sum(counts) == logs["nonfinite_candidates"][-1] > max(counts) > 0


def test_a_batch_without_a_finite_loss_is_recorded_as_such():
    monitor = SearchMonitor(every=1)
    with pytest.raises(ValueError, match="Training stopped"):
        make_model(monte_carlo(sigma=0.1)).fit(
            X, np.full_like(Y, np.nan), batch_size=96, callbacks=[monitor], verbose=0
        )
    assert monitor.history["nonfinite_candidates"] == [32]
    assert np.isnan(monitor.history["best_loss"]).all()


def test_each_fit_starts_anew_and_ends_the_watch():
    model, monitor = make_model(monte_carlo()), SearchMonitor()
    fit(model, monitor)
    fit(model, monitor, epochs=2)
    assert monitor.history["update"] == [12, 15]
    assert np.isnan(model.optimizer.search_state()["center_loss"])


def test_one_of_several_searches_is_watched_by_its_name():
    def model():
        parts = {"head/*": monte_carlo(), "hidden/bias": CMAES(seed=0), "*": "adam"}
        return make_model(PartitionedOptimizer(parts))

    monitor = SearchMonitor(optimizer_name="cma_es")
    fit(model(), monitor)
    assert "axis_ratio" in monitor.history
    for name in (None, "adam"):
        with pytest.raises(ValueError, match=r"'monte_carlo', 'cma_es'.*optimizer_name="):
            fit(model(), SearchMonitor(optimizer_name=name))


def test_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    assert np.isfinite(history_of(monte_carlo())[0]["center_loss"]).all()


@pytest.mark.parametrize("optimizer", ["adam", PartitionedOptimizer({"*": "sgd"})])
def test_an_optimizer_that_does_not_search_is_an_error(optimizer):
    with pytest.raises(ValueError, match=r"searches by sampling.*trains by '(adam|sgd)"):
        history_of(optimizer)


@pytest.mark.parametrize(("every", "error"), [(0, ValueError), (1.5, TypeError)])
def test_bad_arguments(every, error):
    with pytest.raises(error, match="`every`"):
        SearchMonitor(every)


# The figure


@pytest.mark.parametrize("make", [monte_carlo, lambda: CMAES(seed=0)])
def test_the_figure_shows_all_that_was_recorded(make):
    monitor = SearchMonitor()
    fit(make_model(make()), monitor)
    figure = visualization.plot_search(monitor)
    names = [["loss", "center_loss", "best_loss"], ["width", "step"], ["better_share"]]
    names += [["axis_ratio"]] if "axis_ratio" in monitor.history else []
    for ax, shown in zip(figure.axes, names, strict=True):
        for line, name in zip(ax.lines, shown, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), monitor.history["update"])
            np.testing.assert_array_equal(line.get_ydata(), monitor.history[name])
        assert len(ax.get_legend().get_texts()) == len(shown)
    assert figure.axes[-1].get_xlabel() == "update"
    assert visualization.plot_search(monitor.history).axes[0].get_yscale() == "log"
    figure.draw_without_rendering()


def test_the_figure_of_losses_below_zero_and_of_gaps():
    history = {name: [0.1, np.nan] for name in NAMES} | {"update": [1, 2]}
    assert visualization.plot_search(history).axes[0].get_yscale() == "log"
    history["loss"] = [-1.0, np.nan]
    figure = visualization.plot_search(history)
    assert [ax.get_yscale() for ax in figure.axes] == ["linear", "log", "linear"]


def test_the_figure_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="0 records without 'best_loss', 'better_share'"):
        visualization.plot_search(SearchMonitor())
    with pytest.raises(ValueError, match="1 records without 'step', 'width'"):
        visualization.plot_search({name: [1.0] for name in NAMES - {"width", "step"}})
