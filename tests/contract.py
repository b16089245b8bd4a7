"""What every layer, optimizer, loss and metric must do, whatever it computes.

`check_layer`, `check_optimizer`, `check_loss` and `check_metric` put one case through the life that
Keras gives it: configuration, call or update, stock `fit`, mixed precision, masks, seeds, saving.
The cases are in `contract_cases.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from contract_support import assert_all_equal, assert_equal, check_config, policy, saved_and_loaded
from keras import ops
from tiers import UNCOMPILED


class LayerCase(NamedTuple):
    """A layer and what to feed it. `more_inputs` holds batches of other ranks or widths.

    With `keeps_float32` the outputs are in float32 under every dtype policy.
    """

    name: str
    make: Callable[[], keras.layers.Layer]
    inputs: np.ndarray
    more_inputs: tuple[np.ndarray, ...] = ()
    passes_mask: bool = True
    keeps_float32: bool = False


class OptimizerCase(NamedTuple):
    """An optimizer, and the epochs of 4 batches in which it improves a linear model.

    `scheduled` gets the optimizer, one of its parts, whose learning rate `make` sets; `None` where
    a schedule is an error. With `quantization` the model is quantized to that mode before.
    """

    name: str
    make: Callable[..., keras.optimizers.Optimizer]
    epochs: int = 5
    scheduled: Callable[[Any], keras.optimizers.Optimizer] | None = lambda optimizer: optimizer
    quantization: str | None = None


class LossCase(NamedTuple):
    """A loss, and rows to compare; `head` makes predictions of `y_pred` if given.

    With `of_batch` it is no mean over rows and has no reduction, and weights stand in its formula.
    """

    name: str
    make: Callable[..., keras.losses.Loss]
    y_true: np.ndarray
    y_pred: np.ndarray
    head: Callable[[], keras.layers.Layer] | None = None
    of_batch: bool = False


class MetricCase(NamedTuple):
    """A metric, and an even number of rows to measure; `head` as for losses."""

    name: str
    make: Callable[[], keras.metrics.Metric]
    y_true: np.ndarray
    y_pred: np.ndarray
    head: Callable[[], keras.layers.Layer] | None = None


def check_layer(case: LayerCase, jit_compile: bool = True) -> None:
    """Puts a layer through configuration, shapes, precision, masks, seeds, `fit` and saving."""
    check_config(case.make())
    for inputs in (case.inputs, *case.more_inputs):
        _check_symbolic_call(case.make(), inputs)
    for name in ("mixed_float16", "mixed_bfloat16"):
        _check_layer_precision(case, name)
    _check_mask(case)
    _check_layer_seed(case)
    model = _layer_model(case)
    _check_training_step(model, case.inputs, jit_compile)
    loaded = saved_and_loaded(model)
    _copy_random_state(model, loaded)  # which Keras does not save
    # `predict` compiles both anew, which takes longer than all the rest.
    compute = _called if jit_compile else _predicted
    assert_equal(
        compute(model, case.inputs),
        compute(loaded, case.inputs),
        "The loaded model computes something else",
    )


def check_optimizer(case: OptimizerCase) -> None:
    """Puts an optimizer through configuration, `fit`, seeds, saving, going on, and a schedule."""
    check_config(case.make())
    x, y = _regression_data()

    def train(model, epochs):
        model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
        return model

    model = _regression_model(case.make(), case.quantization)
    loss_before = model.evaluate(x, y, verbose=0)
    loss_after = train(model, case.epochs).evaluate(x, y, verbose=0)
    assert loss_after < loss_before, f"`fit` took the loss from {loss_before} to {loss_after}"
    state = model.optimizer.variables
    assert len(state) > 0, "The optimizer has no state"
    assert all(np.isfinite(np.asarray(v)).all() for v in state), "The state is not finite"

    twin = train(_regression_model(case.make(), case.quantization), case.epochs)
    assert_all_equal(model.weights, twin.weights, "Equal seeds give other weights", rtol=0.0)

    loaded = saved_and_loaded(model)
    assert_all_equal(state, loaded.optimizer.variables, "The loaded optimizer has another state")
    train(model, 1)
    train(loaded, 1)
    assert_all_equal(model.weights, loaded.weights, "The loaded optimizer goes on differently")

    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, decay_steps=4, decay_rate=0.5)
    if case.scheduled is None:
        return
    scheduled = case.make(learning_rate=schedule)
    check_config(scheduled)
    train(_regression_model(scheduled, case.quantization), 1)
    rate = float(case.scheduled(scheduled).learning_rate)
    assert np.isclose(rate, 0.005), f"After 4 batches the schedule is at {rate}, not at 0.005"


def check_loss(case: LossCase) -> None:
    """Puts a loss through configuration, reductions, weights, precision, compile and saving."""
    check_config(case.make())
    mean = _check_loss_of_batch(case) if case.of_batch else _check_loss_of_rows(case)
    halved = _predictions(case, case.y_pred.astype("float16"))
    half = float(case.make()(case.y_true, halved))
    assert np.isclose(half, mean, rtol=0.01), f"On float16 {half}, not {mean}"
    with policy("mixed_float16"):
        value = float(case.make()(case.y_true, _predictions(case, case.y_pred)))
        assert np.isfinite(value), "Not finite in mixed_float16"
    _check_evaluation(case, loss=case.make())


def _check_loss_of_rows(case: LossCase) -> float:
    y_true, y_pred = case.y_true, _predictions(case, case.y_pred)
    rows = np.asarray(case.make(reduction="none")(y_true, y_pred))
    assert rows.shape[:1] == y_true.shape[:1], f"Not one loss per row, but shape {rows.shape}"
    assert np.isfinite(rows).all(), "The loss is not finite"

    total = case.make(reduction="sum")
    mean = case.make(reduction="sum_over_batch_size")
    assert_equal(total(y_true, y_pred), rows.sum(), "'sum' is not the sum of the rows")
    assert_equal(mean(y_true, y_pred), rows.mean(), "'sum_over_batch_size' is not the mean")
    kept = np.arange(len(rows)) % 2
    assert_equal(
        total(y_true, y_pred, sample_weight=kept.astype("float32")),
        total(y_true[kept == 1], _predictions(case, case.y_pred[kept == 1])),
        "A sample weight of zero does not leave its row out",
    )
    return rows.mean()


def _check_loss_of_batch(case: LossCase) -> float:
    loss = case.make()
    value = np.asarray(loss(case.y_true, _predictions(case, case.y_pred)))
    assert value.shape == (), f"Not one loss of the batch, but shape {value.shape}"
    assert np.isfinite(value), "The loss is not finite"
    times = np.arange(len(case.y_true)) % 3
    labels = np.repeat(case.y_true, times, axis=0)
    predictions = _predictions(case, np.repeat(case.y_pred, times, axis=0))
    assert_equal(
        loss(case.y_true, _predictions(case, case.y_pred), times.astype("float32")),
        loss(labels, predictions),
        "Sample weights 0, 1 and 2 do not count rows as often",
    )
    return float(value)


def check_metric(case: MetricCase) -> None:
    """Puts a metric through configuration, updates, reset, weights, compile and saving."""
    check_config(case.make())
    y_true, y_pred = case.y_true, case.y_pred

    def update(metric, y_true, y_pred, *sample_weight):
        metric.update_state(y_true, _predictions(case, y_pred), *sample_weight)

    def measure(*batches):
        metric = case.make()
        for batch in batches:
            update(metric, *batch)
        return np.asarray(metric.result())

    whole = measure((y_true, y_pred))
    assert np.isfinite(whole).all(), f"The result is not finite: {whole}"
    halves = zip(np.split(y_true, 2), np.split(y_pred, 2), strict=True)
    assert_equal(measure(*halves), whole, "Two batches do not add up to one")

    metric = case.make()
    update(metric, y_true[::2], y_pred[::2])
    metric.reset_state()
    update(metric, y_true, y_pred)
    assert_equal(metric.result(), whole, "`reset_state` leaves something behind")

    times = np.arange(len(y_true)) % 3
    assert_equal(
        measure((y_true, y_pred, times.astype("float32"))),
        measure((np.repeat(y_true, times, axis=0), np.repeat(y_pred, times, axis=0))),
        "Sample weights 0, 1 and 2 do not count rows as often",
    )
    with policy("mixed_float16"):
        assert_equal(measure((y_true, y_pred)), whole, "mixed_float16 changes the result")
    _check_evaluation(case, loss="mse", metrics=[case.make()], weighted_metrics=[case.make()])


def _check_symbolic_call(layer: keras.layers.Layer, inputs: np.ndarray) -> None:
    symbolic = layer(keras.Input(inputs.shape[1:], dtype=inputs.dtype))
    actual = layer(inputs)
    assert symbolic.shape == (None, *actual.shape[1:]), (
        f"Symbolic shape {symbolic.shape}, actual shape {tuple(actual.shape)}"
    )
    actual_dtype = keras.backend.standardize_dtype(actual.dtype)
    assert symbolic.dtype == actual_dtype, f"Symbolic {symbolic.dtype}, actual {actual_dtype}"
    shape = layer.compute_output_shape(inputs.shape)
    assert tuple(shape) == tuple(actual.shape), f"`compute_output_shape` says {shape}"


def _check_layer_precision(case: LayerCase, name: str) -> None:
    with policy(name):
        layer = case.make()
        outputs = layer(case.inputs)
    dtype = keras.backend.standardize_dtype(outputs.dtype)
    expected = "float32" if case.keeps_float32 else name.removeprefix("mixed_")
    assert dtype == expected, f"{name} gives outputs in {dtype}"
    assert all(v.dtype == "float32" for v in layer.weights), f"{name} gives other weights"
    assert np.isfinite(np.asarray(ops.cast(outputs, "float32"))).all(), f"{name} overflows"


class _MaskProbe(keras.layers.Layer):
    """Keeps the mask that it is given."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        self.seen = mask
        return inputs


def _check_mask(case: LayerCase) -> None:
    layer = case.make()
    assert layer.supports_masking == case.passes_mask, f"{layer.supports_masking=}"
    if layer.supports_masking:
        inputs = case.inputs.copy()
        inputs[0] = 0
        probe = _MaskProbe()
        probe(layer(keras.layers.Masking(mask_value=0)(inputs)))
        assert probe.seen is not None, "The mask does not come through"
        expected = np.any(inputs != 0, axis=-1)
        np.testing.assert_array_equal(
            np.asarray(probe.seen), expected, "Another mask comes through"
        )


def _check_layer_seed(case: LayerCase) -> None:
    outputs = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        outputs.append(np.asarray(case.make()(case.inputs, training=True)))
    np.testing.assert_array_equal(*outputs, "Equal seeds give other outputs")


def _called(model: keras.Model, inputs: np.ndarray) -> Any:
    return model(inputs)


def _predicted(model: keras.Model, inputs: np.ndarray) -> Any:
    return model.predict(inputs, verbose=0)


def _copy_random_state(source: keras.Model, target: keras.Model) -> None:
    states = [
        [v for v in model.variables if v.name == "seed_generator_state"]
        for model in (source, target)
    ]
    for one, other in zip(*states, strict=True):
        other.assign(one)


def _layer_model(case: LayerCase) -> keras.Model:
    inputs = keras.Input(case.inputs.shape[1:], dtype=case.inputs.dtype)
    features = keras.layers.Flatten()(case.make()(inputs))
    return keras.Model(inputs, keras.layers.Dense(1)(features))


def _check_training_step(model: keras.Model, inputs: np.ndarray, jit_compile: bool) -> None:
    before = model.get_weights()
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=jit_compile)
    targets = np.random.default_rng(0).normal(size=(len(inputs), 1)).astype("float32")
    history = model.fit(inputs, targets, batch_size=len(inputs), verbose=0)
    assert np.isfinite(history.history["loss"]).all(), "The loss is not finite"
    for variable, old, new in zip(model.weights, before, model.get_weights(), strict=True):
        assert np.isfinite(new).all(), f"{variable.path} is not finite after a step"
        changed = not np.array_equal(old, new)
        assert changed or not variable.trainable, f"{variable.path} does not train"


def _regression_data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(1).normal(size=(64, 4)).astype("float32")
    return x, x @ np.array([[1.0], [-2.0], [0.5], [0.0]], "float32") + 1.0


def _regression_model(
    optimizer: keras.optimizers.Optimizer, quantization: str | None
) -> keras.Model:
    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    if quantization is not None:
        model.layers[0].quantize(quantization)
    model.compile(optimizer, "mse", **UNCOMPILED)
    return model


def _predictions(case: LossCase | MetricCase, values: np.ndarray) -> Any:
    return values if case.head is None else case.head()(values)


def _check_evaluation(case: LossCase | MetricCase, **compile_arguments: Any) -> None:
    head = (case.head or keras.layers.Identity)()
    model = keras.Sequential([keras.Input(case.y_pred.shape[1:]), head])
    model.compile(**compile_arguments)
    weights = np.linspace(0.0, 1.0, len(case.y_true))

    def evaluate(model):
        return model.evaluate(case.y_pred, case.y_true, sample_weight=weights, verbose=0)

    values = evaluate(model)
    assert np.isfinite(values).all(), f"`evaluate` gives {values}"
    loaded = saved_and_loaded(model)
    assert_equal(values, evaluate(loaded), "The loaded model evaluates otherwise")
