"""temperature_scale: a trained classifier with calibrated probabilities."""

from typing import Any

import keras
import numpy as np

from keras_extras._core.checks import check_flag, check_integer
from keras_extras._core.data import check_numbers
from keras_extras.callbacks.stop_when_converged import StopWhenConverged
from keras_extras.inference.class_labels import check_probabilities, class_indices
from keras_extras.inference.fixed_predictions import check_not_random
from keras_extras.layers.temperature_scaling import TemperatureScaling, logits_of
from keras_extras.optimizers.lbfgs import LBFGS

_MOST_EPOCHS = 20


def temperature_scale(
    model: keras.Model,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    from_logits: bool = False,
    batch_size: int = 256,
) -> keras.Model:
    """Returns a classifier whose logits are divided by the temperature that fits held-out rows.

    ```
    T = argmin over T > 0 of  - sum over rows of w log softmax(z / T)[y]
    ```

    with the logits `z` of the model, or the logarithms of its probabilities. `optimizers.LBFGS`
    finds it. Networks that were trained for long are mostly too sure, and `T` is above 1 then.
    The most probable class, and so the accuracy, stays what it was.

    The rows must not be those of training, on which a network is right too often.

    References:
        Guo, Pleiss, Sun and Weinberger (2017), "On calibration of modern neural networks",
        [arXiv:1706.04599](https://arxiv.org/abs/1706.04599).

    Args:
        model: Trained Keras model of outputs of shape `(n, classes)`, or `(n, 1)` for the positive
            one of two classes. It stays as it is.
        x: Inputs of held-out rows, an array of shape `(n, ...)` or a structure of arrays.
        y: Integer labels of shape `(n,)` or `(n, 1)`, or one-hot labels of shape `(n, classes)`.
        sample_weight: Array of shape `(n,)` or `(n, 1)`, how much each row counts. Defaults to
            `None`, equally.
        from_logits: Boolean, whether the model returns logits rather than probabilities; the
            calibrated model returns the same. Defaults to `False`.
        batch_size: Integer, rows to predict at once. Defaults to `256`.

    Returns:
        A Keras model with the layers of `model`, which it shares, and
        `layers.TemperatureScaling` as the last, whose `temperature` is what was found. It saves
        and loads in safe mode as `model` does.

    Raises:
        TypeError: If `model` is not a Keras model, or its output is a distribution.
        ValueError: If shapes, labels, probabilities or weights do not fit; if the output is random;
            or if no temperature is best, because all rows are classified correctly or because the
            predictions are no better than chance.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import inference

    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    y = (x[:, 0] + rng.normal(size=300) > 0.0).astype("int32")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[:200], y[:200], verbose=0)
    calibrated = inference.temperature_scale(model, x[200:], y[200:])
    calibrated.predict(x[:3], verbose=0)  # probabilities
    calibrated.layers[-1].temperature
    ```
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a Keras model. Received: model={model!r}")
    check_flag("from_logits", from_logits)
    check_integer("batch_size", batch_size)
    check_numbers("y", y)
    check_not_random(lambda rows: _outputs(model, rows, batch_size), x)
    outputs = _outputs(model, x, batch_size)
    labels = class_indices(y, max(outputs.shape[1], 2), len(outputs))
    weights = _weights(sample_weight, len(outputs))
    if from_logits:
        _check_logits(outputs)
    else:
        check_probabilities(outputs)
        outputs = keras.ops.convert_to_numpy(logits_of(keras.ops.convert_to_tensor(outputs)))
    counted = weights > 0.0
    outputs, labels, weights = outputs[counted], labels[counted], weights[counted]
    _check_that_one_is_best(outputs, labels, weights)
    layer = TemperatureScaling(
        from_logits,
        _best_temperature(outputs, labels, weights),
        name="temperature_scaling",
        dtype="float32",
    )
    if getattr(model, "inputs", None):
        return keras.Model(model.inputs, layer(model.outputs[0]), name=f"{model.name}_calibrated")
    calibrated = keras.Sequential([model, layer], name=f"{model.name}_calibrated")
    calibrated(keras.tree.map_structure(lambda values: values[:1], x))
    return calibrated


def _outputs(model, x, batch_size):
    output = model(keras.tree.map_structure(lambda values: values[:1], x), training=False)
    if hasattr(output, "log_prob"):
        raise TypeError(
            "`model` must return logits or probabilities, and it returns a distribution. Take the "
            "model without its last layer, "
            "`keras.Model(model.inputs, model.layers[-2].output)`, with `from_logits=True`."
        )
    if isinstance(output, list | tuple | dict) or len(output.shape) != 2:
        raise ValueError(
            "`model` must have one output, of shape (n, classes) or (n, 1). "
            f"Received: {keras.tree.map_structure(lambda one: tuple(one.shape), output)}"
        )
    outputs = np.asarray(model.predict(x, batch_size=batch_size, verbose=0), "float32")
    check_numbers("predictions", outputs)
    return outputs


def _weights(sample_weight, num_rows):
    """With the mean 1, so that the loss is that of a row."""
    if sample_weight is None:
        return np.ones(num_rows, "float32")
    check_numbers("sample_weight", sample_weight)
    weights = np.asarray(keras.ops.convert_to_numpy(sample_weight), "float64")
    if weights.shape not in ((num_rows,), (num_rows, 1)):
        raise ValueError(
            f"`sample_weight` must have one number for each row, shape ({num_rows},). "
            f"Received: sample_weight.shape={weights.shape}"
        )
    if np.any(weights < 0.0) or not np.any(weights > 0.0):
        raise ValueError("`sample_weight` must be at least 0, and above it for some rows.")
    return (weights / weights.mean()).reshape(-1).astype("float32")


def _check_logits(outputs):
    is_within = np.all((outputs >= 0.0) & (outputs <= 1.0))
    if outputs.shape[1] > 1 and is_within and np.allclose(outputs.sum(axis=1), 1.0, atol=1e-3):
        raise ValueError(
            "`from_logits=True` is for models that return logits, and these predictions are "
            f"probabilities. Received: {outputs[:2].tolist()} as the first predictions"
        )


def _check_that_one_is_best(logits, labels, weights):
    """The loss is convex in 1 / T: it must fall at 0 and rise in the end."""
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    of_label = logits[np.arange(len(labels)), labels].astype("float64")
    if np.all(of_label >= logits.max(axis=1)):
        raise ValueError(
            "All rows are classified correctly, so the lower the temperature, the better. Give "
            "more rows, which were not used in training."
        )
    if np.average(of_label - logits.mean(axis=1), weights=weights) <= 0.0:
        raise ValueError(
            "The predictions of these rows are no better than chance, so the higher the "
            "temperature, the better. Check that the order of the labels is that of the outputs."
        )


def _best_temperature(logits, labels, weights):
    # In units in which the temperature is of the order of 1, where the search starts.
    unit = float(np.sqrt(np.mean(np.square(logits - logits.mean(axis=1, keepdims=True)))))
    if logits.shape[1] == 1:
        unit = float(np.sqrt(np.mean(np.square(logits))))
    layer = TemperatureScaling(from_logits=True, dtype="float32")
    search = keras.Sequential([keras.Input(logits.shape[1:], dtype="float32"), layer])
    if logits.shape[1] == 1:
        loss, targets = keras.losses.BinaryCrossentropy(from_logits=True), labels[:, None]
    else:
        loss, targets = keras.losses.SparseCategoricalCrossentropy(from_logits=True), labels
    search.compile(LBFGS(), loss)
    search.fit(
        logits / unit,
        targets,
        sample_weight=weights,
        batch_size=len(logits),
        epochs=_MOST_EPOCHS,
        shuffle=False,
        callbacks=[StopWhenConverged()],
        verbose=0,
    )
    return unit * layer.temperature
