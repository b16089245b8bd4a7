"""Two scalars after a filter."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.registration import serializable


@serializable
class ScaleShift(keras.layers.Layer):
    """Shifts its input by one scalar weight and scales the sum by another.

    `outputs = scale * (inputs + shift)`: the two "extra parameters" that KernelML's Higgs
    autoencoder (https://github.com/Freedomtowin/kernelml) has after each filter. With the two
    constraints, the default, neither becomes negative.

    Args:
        scale_initializer: Initializer of the scale. Defaults to `"ones"`.
        shift_initializer: Initializer of the shift. Defaults to `"zeros"`.
        scale_regularizer: Regularizer of the scale. Defaults to `None`.
        shift_regularizer: Regularizer of the shift. Defaults to `None`.
        scale_constraint: Constraint on the scale. Defaults to `"non_neg"`.
        shift_constraint: Constraint on the shift. Defaults to `"non_neg"`.
        **kwargs: Of `keras.layers.Layer`, such as `name` and `dtype`.

    Weights:
        The scalars `scale` and `shift`.

    Input shape:
        Any.

    Output shape:
        That of the input.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    layer = keras_extras.layers.ScaleShift(scale_initializer=keras.initializers.Constant(2.0))
    outputs = layer(np.array([[1.0, 2.0, 3.0]]))  # [[2.0, 4.0, 6.0]]
    ```
    """

    def __init__(
        self,
        scale_initializer: Any = "ones",
        shift_initializer: Any = "zeros",
        scale_regularizer: Any = None,
        shift_regularizer: Any = None,
        scale_constraint: Any = "non_neg",
        shift_constraint: Any = "non_neg",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.scale_initializer = keras.initializers.get(scale_initializer)
        self.shift_initializer = keras.initializers.get(shift_initializer)
        self.scale_regularizer = keras.regularizers.get(scale_regularizer)
        self.shift_regularizer = keras.regularizers.get(shift_regularizer)
        self.scale_constraint = keras.constraints.get(scale_constraint)
        self.shift_constraint = keras.constraints.get(shift_constraint)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.scale = self._add_number(
            "scale", self.scale_initializer, self.scale_regularizer, self.scale_constraint
        )
        self.shift = self._add_number(
            "shift", self.shift_initializer, self.shift_regularizer, self.shift_constraint
        )

    def _add_number(self, name, initializer, regularizer, constraint):
        return self.add_weight(
            name=name,
            shape=(),
            initializer=initializer,
            regularizer=regularizer,
            constraint=constraint,
        )

    def call(self, inputs: Any) -> Any:
        return ops.multiply(self.scale, ops.add(inputs, self.shift))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "scale_initializer": keras.initializers.serialize(self.scale_initializer),
            "shift_initializer": keras.initializers.serialize(self.shift_initializer),
            "scale_regularizer": keras.regularizers.serialize(self.scale_regularizer),
            "shift_regularizer": keras.regularizers.serialize(self.shift_regularizer),
            "scale_constraint": keras.constraints.serialize(self.scale_constraint),
            "shift_constraint": keras.constraints.serialize(self.shift_constraint),
        }
