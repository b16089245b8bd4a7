"""SWAG: moments of the weights that training passes through, and what they predict."""

import keras
import numpy as np
import pytest

from keras_extras.callbacks import SWAG, BackupAndResume
from keras_extras.inference import Posterior

pytestmark = pytest.mark.both_backends

_NOISE, _ROWS = 0.5, 64
_GENERATOR = np.random.default_rng(0)
_X = np.linalg.qr(_GENERATOR.normal(size=(_ROWS, 3)))[0].astype("float32") * np.sqrt(_ROWS)
_Y = (_X @ [[1.0], [-2.0], [0.5]] + _NOISE * _GENERATOR.normal(size=(_ROWS, 1))).astype("float32")


def _loss(y, outputs):
    return keras.ops.square(y - outputs) / (2 * _NOISE**2)


def _model(*layers, learning_rate=0.05, loss="mse", **arguments):
    layers = layers or (keras.layers.Dense(1),)
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.SGD(learning_rate), loss, **arguments)
    return model


class _Weights(keras.callbacks.Callback):
    """Notes the weights where SWAG may take them."""

    def __init__(self, unit):
        super().__init__()
        self.unit, self.seen = unit, []

    def on_train_batch_end(self, batch, logs=None):
        if self.unit == "batches":
            self.seen.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        if self.unit == "epochs":
            self.seen.append(self.model.get_weights())


@pytest.mark.parametrize(("unit", "start", "every"), [("epochs", 2, 2), ("batches", 1, 3)])
def test_moments_are_those_of_the_snapshots(unit, start, every):
    swag, noted = SWAG(start, every, unit, rank=3), _Weights(unit)
    model = _model()
    model.fit(_X, _Y, batch_size=16, epochs=10 + start, callbacks=[noted, swag], verbose=0)
    first = start if unit == "epochs" else 4 * start
    kept = [np.concatenate(list(map(np.ravel, w))) for w in noted.seen[first + every - 1 :: every]]
    assert swag.num_collected == len(kept) > 3
    kept = np.array(kept, "float64")
    np.testing.assert_allclose(
        np.concatenate(list(map(np.ravel, swag.mean()))), kept.mean(0), rtol=1e-6
    )
    columns = [kept[n] - kept[: n + 1].mean(0) for n in range(len(kept))][-3:]
    covariance = np.diag(kept.var(0)) / 2 + np.transpose(columns) @ columns / (2 * (3 - 1))
    drawn = swag.draw(40_000, np.random.default_rng(1))
    drawn = np.concatenate([d.reshape(40_000, -1) for d in drawn], axis=1)
    # Five standard errors of an entry of a sample covariance.
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)) * 2 / 40_000)
    assert np.all(np.abs(np.cov(drawn.T) - covariance) < 5 * scale)


def test_the_posterior_of_a_linear_model():
    """At a learning rate of 2 B / (n h), SGD walks through the posterior of a linear model."""
    rows, steps, generator = 256, 40_000, np.random.default_rng(2)
    x, noise = np.split(np.linalg.qr(generator.normal(size=(rows, 4)))[0] * np.sqrt(rows), [3], 1)
    x, y = x.astype("float32"), x @ [[1.0], [-2.0], [0.5]] + _NOISE * noise
    model = _model(
        keras.layers.Dense(1, use_bias=False),
        learning_rate=2 / rows * _NOISE**2,
        loss=_loss,
        steps_per_execution=20,
    )
    model.set_weights([np.array([[1.0], [-2.0], [0.5]])])
    swag = SWAG(0, every=20, unit="batches", rank=300)
    drawn = generator.integers(rows, size=steps)
    model.fit(x[drawn], y[drawn], batch_size=1, shuffle=False, callbacks=[swag], verbose=0)
    stddev = _NOISE / np.sqrt(rows)
    draws = swag.draw(4000, generator)[0][..., 0]
    # The steps are correlated over some 128, which leaves 300 independent ones.
    np.testing.assert_allclose(draws.mean(0), [1.0, -2.0, 0.5], atol=0.25 * stddev)
    np.testing.assert_allclose(draws.std(0), stddev, rtol=0.15)


def test_snapshots_that_do_not_differ_are_warned_of():
    class Shuffled(keras.utils.PyDataset):
        """A new order of the rows in each epoch, whatever the seed."""

        def on_epoch_begin(self):
            self.order = generator.permutation(_ROWS)

        def __len__(self):
            return _ROWS // 4

        def __getitem__(self, index):
            rows = self.order[4 * index : 4 * index + 4]
            return _X[rows], _Y[rows]

    swag = SWAG(40)
    with pytest.warns(UserWarning, match="posterior has no width"):
        _model(learning_rate=0.2).fit(
            _X, _Y, batch_size=_ROWS, epochs=45, callbacks=[swag], verbose=0
        )
    generator = np.random.default_rng(2)
    rows = Shuffled()
    rows.on_epoch_begin()
    _model(learning_rate=0.2).fit(rows, epochs=45, shuffle=False, callbacks=[swag], verbose=0)
    assert swag.draw(200, _GENERATOR)[0].std(0).min() > 0.05


def test_batches_count_with_several_steps_in_an_execution():
    swag = SWAG(1, every=4, unit="batches")
    model = _model(steps_per_execution=4)
    model.fit(_X, _Y, batch_size=4, epochs=3, callbacks=[swag], verbose=0)
    assert swag.num_collected == 8


def test_the_mean_with_batch_normalization():
    normalization = keras.layers.BatchNormalization(momentum=0.9)
    model = _model(keras.layers.Dense(4), normalization, keras.layers.Dense(1))
    swag = SWAG(1)
    model.fit(_X, _Y, epochs=5, callbacks=[swag], verbose=0)
    before = model.get_weights()
    with pytest.raises(ValueError, match="give `x`, the training inputs"):
        swag.set_mean()
    np.testing.assert_equal(model.get_weights(), before)
    swag.set_mean(_X, batch_size=_ROWS)
    kernel, bias = map(keras.ops.convert_to_numpy, model.layers[0].weights)
    np.testing.assert_allclose(kernel, swag.mean()[0], rtol=1e-6)
    hidden = _X @ kernel + bias
    np.testing.assert_allclose(normalization.moving_mean, hidden.mean(0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(normalization.moving_variance, hidden.var(0), rtol=1e-3)
    # Batches of unequal sizes count by their rows.
    swag.set_mean(_X, batch_size=48)
    np.testing.assert_allclose(normalization.moving_mean, hidden.mean(0), rtol=1e-3, atol=1e-5)


def test_frozen_batch_normalization_needs_no_data():
    normalization = keras.layers.BatchNormalization(trainable=False)
    model = _model(normalization, keras.layers.Dense(1))
    swag = SWAG(0)
    model.fit(_X, _Y, epochs=3, callbacks=[swag], verbose=0)
    swag.set_mean()
    np.testing.assert_array_equal(normalization.moving_mean, np.zeros(3))


def test_each_draw_predicts_with_its_own_statistics(tmp_path):
    normalization = keras.layers.BatchNormalization(momentum=0.9)
    model = _model(keras.layers.Dense(4), normalization, keras.layers.Dense(1))
    swag = SWAG(0)
    model.fit(_X, _Y, batch_size=16, epochs=6, callbacks=[swag], verbose=0)
    posterior = Posterior.from_callback(swag, num_draws=3, x=_X, batch_size=_ROWS, seed=1)
    means = posterior.predict_distribution(_X).components_distribution.mean()
    posterior.save(tmp_path / "posterior.npz")
    again = Posterior.load(tmp_path / "posterior.npz", model).predict_distribution(_X)
    np.testing.assert_array_equal(again.components_distribution.mean(), means)
    trainable = [values[0] for values in posterior.samples]
    for draw in range(3):
        kernel, bias, scale, shift, last, offset = (values[draw] for values in trainable)
        hidden = _X @ kernel + bias
        hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + normalization.epsilon)
        expected = (hidden * scale + shift) @ last + offset
        np.testing.assert_allclose(means[:, draw], expected, rtol=1e-2, atol=1e-3)


def test_mixed_precision_and_seeds():
    model = _model(keras.layers.Dense(1, dtype="mixed_bfloat16"))
    swag = SWAG(0)
    model.fit(_X, _Y, epochs=4, callbacks=[swag], verbose=0)
    one, same, other = (Posterior.from_callback(swag, 5, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.samples[0], same.samples[0])
    assert not np.array_equal(one.samples[0], other.samples[0])
    assert one.samples[0].shape == (1, 5, 3, 1)


def test_another_fit_starts_anew():
    swag, model = SWAG(1), _model()
    for _ in range(2):
        model.fit(_X, _Y, epochs=4, callbacks=[swag], verbose=0)
        assert swag.num_collected == 3


class _Killed(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 4:
            raise KeyboardInterrupt


def test_collecting_goes_on_after_an_interruption(tmp_path):
    def train(*callbacks, stateful=True):
        keras.utils.set_random_seed(3)
        swag, model = SWAG(1, rank=4), _model()
        backup = BackupAndResume(tmp_path, stateful=[swag] if stateful else [])
        callbacks = [swag, *callbacks, backup][: 3 if callbacks != (None,) else 1]
        model.fit(_X, _Y, epochs=7, callbacks=callbacks, verbose=0)
        return swag

    whole = train(None)
    with pytest.raises(KeyboardInterrupt):
        train(_Killed())
    resumed = train()
    assert resumed.num_collected == whole.num_collected == 6
    draws = [swag.draw(2, np.random.default_rng(1))[0] for swag in (whole, resumed)]
    np.testing.assert_allclose(*draws, rtol=1e-6)


def test_an_interruption_without_the_state_is_warned_of(tmp_path):
    model = _model()
    with pytest.warns(UserWarning, match="snapshots taken before are not known"):
        model.fit(_X, _Y, initial_epoch=3, epochs=6, callbacks=[SWAG(1)], verbose=0)


def test_weights_that_are_not_finite_are_left_out():
    class Spoiled(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            value = np.nan if epoch == 3 else epoch
            self.model.set_weights([np.full_like(w, value) for w in self.model.get_weights()])

    swag, model = SWAG(1), _model()
    with pytest.warns(UserWarning, match="leaves out weights that are NaN"):
        model.fit(_X, _Y, epochs=5, callbacks=[Spoiled(), swag], verbose=0)
    assert swag.num_collected == 3
    np.testing.assert_allclose(swag.mean()[0], np.full((3, 1), (1 + 2 + 4) / 3))


def test_too_few_snapshots():
    swag = SWAG(3)
    with pytest.raises(ValueError, match="needs 2 snapshots at least"):
        swag.mean()
    with pytest.warns(UserWarning, match="`fit` ended with 1"):
        _model().fit(_X, _Y, epochs=4, callbacks=[swag], verbose=0)
    with pytest.raises(ValueError, match="Received: 1 snapshots"):
        Posterior.from_callback(swag)


def test_weights_that_change_are_an_error():
    class Freeze(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.layers[0].trainable = epoch < 1

    model = _model(keras.layers.Dense(4), keras.layers.Dense(1))
    with pytest.raises(ValueError, match="weights stay the same between snapshots"):
        model.fit(_X, _Y, epochs=4, callbacks=[Freeze(), SWAG(0)], verbose=0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SWAG(-1), ValueError, "`start_epoch` must be at least 0"),
        (lambda: SWAG(1, every=0), ValueError, "`every` must be at least 1"),
        (lambda: SWAG(1, unit="steps"), ValueError, "`unit` must be one of"),
        (lambda: SWAG(1, rank=0), ValueError, "`rank` must be at least 2"),
        (lambda: Posterior.from_callback(None), TypeError, "`swag` must be a"),
        (lambda: BackupAndResume("x", stateful=[1]), TypeError, "`stateful` must be a list"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
