"""TemperatureScaling: one number that makes a classifier less sure, or surer."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import check_flag, check_inputs, check_number
from keras_extras._core.registration import serializable


@serializable
class TemperatureScaling(keras.layers.Layer):
    """Divides logits by a temperature, which is a weight.

    ```
    logits:            outputs = inputs / T
    several classes:   outputs = softmax(log(inputs) / T)
    one probability:   outputs = sigmoid((log(inputs) - log(1 - inputs)) / T)
    ```

    The temperature is positive, so the order of the classes stays as it is: a classifier's
    accuracy does not change, only how sure it is. `inference.temperature_scale` finds it for a
    trained classifier.

    References:
        Guo, Pleiss, Sun and Weinberger (2017), "On calibration of modern neural networks",
        [arXiv:1706.04599](https://arxiv.org/abs/1706.04599).

    Args:
        from_logits: Boolean, whether inputs are logits rather than probabilities; outputs are of
            the same kind. Defaults to `False`.
        temperature: Positive float, the temperature to start from. Defaults to `1.0`.
        **kwargs: Of `keras.layers.Layer`, such as `name` and `dtype`.

    Weights:
        `log_temperature`, a scalar.

    Input shape:
        `(n, ..., classes)`, or `(n, ..., 1)` for the positive one of two classes.

    Output shape:
        That of the input.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `temperature` is not positive, or inputs have no axis of classes.

    Example:

    ```python
    import numpy as np
    import keras_extras

    layer = keras_extras.layers.TemperatureScaling(temperature=2.0)
    layer(np.array([[0.8, 0.2]]))  # [[0.667, 0.333]], as 2 to 1 is the square root of 4 to 1
    ```
    """

    def __init__(self, from_logits: bool = False, temperature: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.from_logits = check_flag("from_logits", from_logits)
        self.start = check_number("temperature", temperature, above=0.0)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) < 2 or input_shape[-1] is None:
            raise ValueError(
                f"Layer {self.name!r} needs inputs with a last axis of classes, of known length. "
                f"Received: inputs of shape {tuple(input_shape)}"
            )
        self.log_temperature = self.add_weight(
            name="log_temperature",
            shape=(),
            initializer=keras.initializers.Constant(math.log(self.start)),
        )

    @property
    def temperature(self) -> float:
        """The temperature."""
        return float(ops.exp(self.log_temperature)) if self.built else self.start

    def call(self, inputs: Any) -> Any:
        check_inputs(self.name, inputs)
        # Of half precision, 1 minus a probability would be too coarse.
        inputs = ops.cast(inputs, keras.backend.result_type(self.compute_dtype, "float32"))
        logits = inputs if self.from_logits else logits_of(inputs)
        logits = logits / ops.exp(ops.cast(self.log_temperature, logits.dtype))
        if self.from_logits:
            return ops.cast(logits, self.compute_dtype)
        squash = ops.sigmoid if inputs.shape[-1] == 1 else ops.softmax
        return ops.cast(squash(logits), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "temperature": self.start,
        }


def logits_of(probabilities: Any) -> Any:
    """Returns logits of probabilities, finite ones also where these are 0 or 1.

    Args:
        probabilities: Tensor of shape `(..., classes)`, or `(..., 1)` for one of two classes.
    """
    limits = np.finfo(keras.backend.standardize_dtype(probabilities.dtype))
    logarithm = ops.log(ops.maximum(probabilities, float(limits.tiny)))
    if probabilities.shape[-1] > 1:
        return logarithm
    return logarithm - ops.log(ops.maximum(1.0 - probabilities, float(limits.epsneg)))
