"""VariableLayer: a trainable tensor, whatever the input."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_integers
from keras_extras._core.registration import serializable


@serializable
class VariableLayer(keras.layers.Layer):
    """Returns a trainable variable, and does not look at its input.

    It makes parameters of distributions that depend on nothing: fits of one distribution to data,
    and priors that are learned. It is `Dense` without a kernel.

    Args:
        shape: Integer or integers, the shape of the variable.
        dtype: The dtype of the variable; `None` means that of the global dtype policy. Defaults to
            `None`.
        activation: Activation function of the output. Defaults to `None`.
        initializer: Initializer of the variable; `BlockwiseInitializer` starts parts of it
            differently. Defaults to `"zeros"`.
        regularizer: Regularizer of the variable. Defaults to `None`.
        constraint: Constraint on the variable. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name` and `trainable`.

    Weights:
        `constant`, of shape `shape`.

    Input shape:
        Any.

    Output shape:
        `shape`, without a batch axis.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    model = keras.Sequential([
        keras_extras.layers.VariableLayer((2,)),
        keras_extras.layers.IndependentNormal(),
    ])
    model.compile("adam", loss=lambda y, rv_y: -rv_y.log_prob(y[:, 0]))
    model.fit(np.zeros((8, 1)), np.ones((8, 1)), verbose=0)
    model(np.zeros(1)).mean()  # one number, on its way to the mean of the targets
    ```
    """

    def __init__(
        self,
        shape: int | Sequence[int],
        dtype: Any = None,
        activation: Any = None,
        initializer: Any = "zeros",
        regularizer: Any = None,
        constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.shape = check_integers("shape", shape, minimum=0)
        self.activation = keras.activations.get(activation)
        self.initializer = keras.initializers.get(initializer)
        self.regularizer = keras.regularizers.get(regularizer)
        self.constraint = keras.constraints.get(constraint)
        self.constant = self.add_weight(
            name="constant",
            shape=self.shape,
            initializer=self.initializer,
            regularizer=self.regularizer,
            constraint=self.constraint,
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        # A copy, since the variable itself changes while the output is held.
        return self.activation(ops.cast(ops.copy(self.constant), self.compute_dtype))

    def compute_output_shape(self, input_shape: Any) -> tuple[int, ...]:
        return self.shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "shape": self.shape,
            "activation": keras.activations.serialize(self.activation),
            "initializer": keras.initializers.serialize(self.initializer),
            "regularizer": keras.regularizers.serialize(self.regularizer),
            "constraint": keras.constraints.serialize(self.constraint),
        }
