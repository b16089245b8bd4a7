"""StopWhenConverged on losses that are known, and in `fit`."""

import keras
import numpy as np
import pytest
from tiers import UNCOMPILED

from keras_extras.callbacks import StopWhenConverged
from keras_extras.optimizers import MonteCarloOptimizer

pytestmark = pytest.mark.both_backends


def stopped_epoch(losses, **arguments):
    callback = StopWhenConverged(**arguments)
    model = keras.Sequential()
    model.stop_training = False
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"loss": loss, "val_loss": -loss})
        if callback.model.stop_training:
            return callback.stopped_epoch
    return None


def noise(count=200, seed=0):
    return np.random.default_rng(seed).normal(size=count)


def test_goes_on_while_the_loss_falls():
    epochs = np.arange(200)
    assert stopped_epoch(1.0 - 0.001 * epochs) is None
    assert stopped_epoch(np.exp(-0.05 * epochs)) is None
    assert stopped_epoch(10.0 - 0.5 * epochs + noise()) is None


def test_stops_where_only_noise_is_left():
    falling = 10.0 - 0.2 * np.arange(50)
    losses = np.concatenate([falling, np.zeros(150)]) + 0.1 * noise()
    assert 50 <= stopped_epoch(losses) < 90
    assert stopped_epoch(np.ones(50)) == 19
    assert stopped_epoch(np.arange(50.0)) == 19  # it rises


def test_a_larger_z_score_stops_earlier():
    losses = np.exp(-0.03 * np.arange(200)) + 0.02 * noise()
    epochs = [stopped_epoch(losses, z_score=z, window=8) for z in (0.0, 1.0, 4.0)]
    assert epochs[0] >= epochs[1] > epochs[2]


def test_stops_when_the_relative_change_is_small():
    losses = 1.0 + np.exp(-0.1 * np.arange(200))
    assert stopped_epoch(losses) is None or stopped_epoch(losses) > 100
    stopped = stopped_epoch(losses, min_relative_change=0.01)
    assert 40 < stopped < 80


def test_values_that_are_not_finite_stop_nothing():
    assert stopped_epoch([np.nan] * 50) is None


def test_in_fit(capsys):
    x = np.linspace(-1.0, 1.0, 64)[:, None].astype("float32")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(MonteCarloOptimizer(0.05, population_size=16, seed=0), "mse", **UNCOMPILED)
    callback = StopWhenConverged(window=5, verbose=1)
    history = model.fit(x, 2 * x, epochs=500, callbacks=[callback], verbose=0).history
    assert len(history["loss"]) == callback.stopped_epoch + 1 < 500
    assert history["loss"][-1] < 0.01 * history["loss"][0]
    assert "loss has converged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"window": 1}, ValueError, "`window`.*at least 2"),
        ({"z_score": -1.0}, ValueError, "`z_score`"),
        ({"min_relative_change": "much"}, TypeError, "`min_relative_change`"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        StopWhenConverged(**arguments)


def test_an_unknown_quantity_is_an_error():
    with pytest.raises(ValueError, match=r"'loss', 'val_loss'.*monitor='accuracy'"):
        stopped_epoch([1.0], monitor="accuracy")


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_epochs_without_validation_are_passed_over(monitor):
    x = np.linspace(-1.0, 1.0, 16)[:, None].astype("float32")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    options = {"validation_data": (x, x), "validation_freq": 2, "epochs": 5, "verbose": 0}
    callback = StopWhenConverged(window=2, z_score=0.0, monitor=monitor)
    if monitor == "val_loss":
        assert len(model.fit(x, 2 * x, callbacks=[callback], **options).history["loss"]) == 5
    else:
        with pytest.raises(ValueError, match="monitor='val_accuracy'"):
            model.fit(x, 2 * x, callbacks=[callback], **options)


def test_a_fit_that_never_validates_is_told():
    x = np.linspace(-1.0, 1.0, 16)[:, None].astype("float32")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = StopWhenConverged(monitor="val_loss")
    with pytest.warns(UserWarning, match="'val_loss'.*never validated"):
        model.fit(x, x, validation_data=(x, x), validation_freq=5, callbacks=[callback], verbose=0)
