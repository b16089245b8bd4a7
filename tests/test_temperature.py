"""Temperature scaling: the optimum of SciPy, for every kind of output, weights and files."""

import keras
import numpy as np
import pytest
from contract_support import saved_and_loaded
from scipy.optimize import minimize_scalar

from keras_extras import inference, layers, metrics

pytestmark = pytest.mark.both_backends

RNG = np.random.default_rng(1)
TRUE_T = 2.5
ROWS = 400
LOGITS = RNG.normal(size=(ROWS, 3)).astype("float32") * 4.0


def _draw(logits):
    """Labels of the probabilities at `TRUE_T`."""
    noise = RNG.gumbel(size=logits.shape)
    return np.argmax(logits / TRUE_T + noise, axis=1)


def _log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def _optimum(logits, labels, weights):
    rows = np.arange(len(labels))

    def loss(log_t):
        return -np.average(_log_softmax(logits / np.exp(log_t))[rows, labels], weights=weights)

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 8), method="bounded").x))


def _model(units, activation=None, scale=1.0, dtype=None):
    """Returns its inputs, times `scale`, behind an activation."""
    dense = keras.layers.Dense(
        units, activation, kernel_initializer=keras.initializers.Identity(scale), dtype=dtype
    )
    return keras.Sequential([keras.Input((units,)), dense])


@pytest.mark.parametrize(
    ("activation", "form", "weighted"),
    [(None, "labels", True), ("softmax", "column", False), ("softmax", "one-hot", True)],
)
def test_of_several_classes(activation, form, weighted):
    labels = _draw(LOGITS)
    weights = RNG.integers(3, size=ROWS) if weighted else None
    y = {"labels": labels, "column": labels[:, None], "one-hot": np.eye(3)[labels]}[form]
    model = _model(3, activation)
    before = model.predict(LOGITS, verbose=0)
    calibrated = inference.temperature_scale(
        model, LOGITS, y, weights, from_logits=activation is None
    )
    found = calibrated.layers[-1].temperature
    assert found == pytest.approx(_optimum(LOGITS, labels, weights), rel=2e-3)
    assert found == pytest.approx(TRUE_T, rel=0.25)
    after = calibrated.predict(LOGITS, verbose=0)
    expected = LOGITS / found if activation is None else np.exp(_log_softmax(LOGITS / found))
    np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(np.argmax(after, axis=1), np.argmax(before, axis=1))
    np.testing.assert_array_equal(model.predict(LOGITS, verbose=0), before)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_of_two_classes_in_one_column(activation):
    logits = 4.0 * RNG.normal(size=(ROWS, 1)).astype("float32")
    both = np.c_[np.zeros(ROWS), logits]
    labels, weights = _draw(both), RNG.uniform(size=ROWS)
    model = _model(1, activation)
    y = labels if activation is None else np.eye(2)[labels]
    calibrated = inference.temperature_scale(
        model, logits, y, weights, from_logits=activation is None
    )
    found = calibrated.layers[-1].temperature
    assert found == pytest.approx(_optimum(both, labels, weights), rel=2e-3)
    after = calibrated.predict(logits, verbose=0)
    expected = logits / found if activation is None else 1 / (1 + np.exp(-logits / found))
    np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_of_logits_of_any_scale(scale):
    labels = _draw(LOGITS)
    model = _model(3, scale=scale)
    calibrated = inference.temperature_scale(model, LOGITS, labels, from_logits=True)
    expected = scale * _optimum(LOGITS, labels, None)
    assert calibrated.layers[-1].temperature == pytest.approx(expected, rel=2e-3)


def test_the_calibrated_model_loads_in_safe_mode_and_trains():
    model = _model(3, "softmax")
    labels = _draw(LOGITS)
    calibrated = inference.temperature_scale(model, LOGITS, labels)
    again = saved_and_loaded(calibrated)
    np.testing.assert_allclose(
        again.predict(LOGITS, verbose=0), calibrated.predict(LOGITS, verbose=0), rtol=1e-6
    )
    assert again.layers[-1].temperature == pytest.approx(calibrated.layers[-1].temperature)
    before = calibrated.layers[-1].temperature
    calibrated.compile("sgd", "sparse_categorical_crossentropy")
    calibrated.fit(LOGITS, labels, verbose=0)
    assert calibrated.layers[-1].temperature != before


def test_under_a_policy_of_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    labels = _draw(LOGITS)
    calibrated = inference.temperature_scale(_model(3, "softmax"), LOGITS, labels)
    assert calibrated.predict(LOGITS, verbose=0).dtype == "float32"
    found = calibrated.layers[-1].temperature
    assert found == pytest.approx(_optimum(LOGITS, labels, None), rel=0.05)


def test_of_models_of_several_inputs_and_of_subclasses():
    labels = _draw(LOGITS)
    expected = _optimum(LOGITS, labels, None)
    inputs = {name: keras.Input((3,), name=name) for name in ("a", "b")}
    model = keras.Model(inputs, keras.layers.Add()([inputs["a"], inputs["b"]]))
    x = {"a": 0.25 * LOGITS, "b": 0.75 * LOGITS}
    calibrated = inference.temperature_scale(model, x, labels, from_logits=True)
    assert calibrated.layers[-1].temperature == pytest.approx(expected, rel=2e-3)
    assert calibrated.predict(x, verbose=0).shape == (ROWS, 3)

    class Halved(keras.Model):
        def call(self, inputs):
            return inputs / 2

    calibrated = inference.temperature_scale(Halved(), LOGITS, labels, from_logits=True)
    assert calibrated.layers[-1].temperature == pytest.approx(0.5 * expected, rel=2e-3)
    assert calibrated.predict(LOGITS, verbose=0).shape == (ROWS, 3)


def test_the_layer():
    layer = layers.TemperatureScaling(temperature=2.0)
    p = np.array([[0.8, 0.2], [1.0, 0.0], [0.5, 0.5]], "float32")
    np.testing.assert_allclose(layer(p)[0], [2 / 3, 1 / 3], rtol=1e-5)
    assert np.isfinite(np.asarray(layer(p))).all()
    binary = np.asarray(layer(p[:, :1]))
    np.testing.assert_allclose(binary[:, 0], np.asarray(layer(p))[:, 0], rtol=1e-3)
    assert layer.temperature == pytest.approx(2.0)
    with pytest.raises(ValueError, match="`temperature`"):
        layers.TemperatureScaling(temperature=0.0)
    with pytest.raises(ValueError, match="last axis of classes"):
        layers.TemperatureScaling()(np.ones(3))


def test_an_overtrained_network_of_digits():
    """The calibration error is at least halved, and the accuracy stays as it is."""
    data = pytest.importorskip("sklearn.datasets")
    x, y = data.load_digits(return_X_y=True)
    x = (x / 16.0 + np.random.default_rng(0).normal(scale=0.3, size=x.shape)).astype("float32")
    order = np.random.default_rng(1).permutation(len(x))
    train, held_out, test = order[:500], order[500:1000], order[1000:]
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, "relu"),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
    model.fit(x[train], y[train], epochs=60, batch_size=50, verbose=0)
    calibrated = inference.temperature_scale(model, x[held_out], y[held_out])
    errors, accuracies = [], []
    for one in (model, calibrated):
        p = one.predict(x[test], verbose=0)
        metric = metrics.ExpectedCalibrationError()
        metric.update_state(y[test], p)
        errors.append(float(metric.result()))
        accuracies.append(np.mean(np.argmax(p, axis=1) == y[test]))
    assert errors[1] < 0.5 * errors[0], errors
    assert accuracies[0] == accuracies[1]


def test_bad_input_is_refused():
    labels, model = _draw(LOGITS), _model(3)
    with pytest.raises(TypeError, match="`model` must be a Keras model"):
        inference.temperature_scale(lambda x: x, LOGITS, labels)
    with pytest.raises(ValueError, match="For logits, set `from_logits=True`"):
        inference.temperature_scale(model, LOGITS, labels)
    with pytest.raises(ValueError, match="these predictions are probabilities"):
        inference.temperature_scale(_model(3, "softmax"), LOGITS, labels, from_logits=True)
    for y, message in (
        (labels[:-1], r"`y` must hold labels of shape \(400,\)"),
        (labels + 1, "labels from 0 to 2.*Received: .3"),
        (labels + 0.5, "labels from 0 to 2"),
        (np.ones((ROWS, 3)), "one 1 in each row"),
        (np.argmax(LOGITS, axis=1), "All rows are classified correctly"),
        (np.argmin(LOGITS, axis=1), "no better than chance"),
        (np.where(labels == 0, np.nan, labels), "`y` must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            inference.temperature_scale(model, LOGITS, y, from_logits=True)
    for weights in (np.ones(3), -np.ones(ROWS), np.zeros(ROWS), np.full(ROWS, np.nan)):
        with pytest.raises(ValueError, match="`sample_weight` must"):
            inference.temperature_scale(model, LOGITS, labels, weights, from_logits=True)
    random = keras.Sequential([keras.Input((3,)), layers.MCDropout(0.5)])
    with pytest.raises(ValueError, match="Two predictions of the same row differ"):
        inference.temperature_scale(random, LOGITS, labels, from_logits=True)
