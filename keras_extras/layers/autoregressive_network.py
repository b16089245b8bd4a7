"""AutoregressiveNetwork: a network whose outputs look only at earlier inputs."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import check_choice, check_flag, check_integer, check_integers
from keras_extras._core.registration import serializable


@serializable
class AutoregressiveNetwork(keras.layers.Layer):
    """A masked dense network: parameters for each entry of a vector from the entries before it.

    Entries, and units of hidden layers, have degrees. A connection is kept if it leads from a
    degree to the same or a greater one, and, at the outputs, to a greater one. So the parameters
    of entry `i` depend on the entries before `i` alone.

    References:
        Germain, Gregor, Murray and Larochelle (2015), "MADE: masked autoencoder for distribution
        estimation", [arXiv:1502.03509](https://arxiv.org/abs/1502.03509).

    Args:
        params: Integer, parameters for each entry.
        event_shape: Integer, or list of one, the number of entries; `None` to take it from the
            inputs. Defaults to `None`.
        hidden_units: List of integers, the units of the hidden layers. Defaults to `()`.
        input_order: `"left-to-right"`, `"right-to-left"`, or the degrees of the entries, a
            permutation of 1, 2, ..., which says in which order they follow each other. Defaults to
            `"left-to-right"`.
        activation: Activation function of the hidden layers. Defaults to `None`.
        use_bias: Boolean, whether there are biases. Defaults to `True`.
        kernel_initializer: Initializer of the kernels. Defaults to `"glorot_uniform"`.
        bias_initializer: Initializer of the biases. Defaults to `"zeros"`.
        kernel_regularizer: Regularizer of the kernels. Defaults to `None`.
        bias_regularizer: Regularizer of the biases. Defaults to `None`.
        kernel_constraint: Constraint on the kernels. Defaults to `None`.
        bias_constraint: Constraint on the biases. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name`.

    Input shape:
        `(..., entries)`.

    Output shape:
        `(..., entries, params)`.

    Raises:
        ValueError: If inputs do not have `event_shape` entries, or `input_order` is no permutation.

    Example:

    ```python
    import numpy as np
    import keras_extras

    network = keras_extras.layers.AutoregressiveNetwork(2, hidden_units=[8], activation="relu")
    outputs = network(np.ones((4, 3)))  # shape (4, 3, 2); outputs[:, 0] is a constant
    ```
    """

    def __init__(
        self,
        params: int,
        event_shape: int | Sequence[int] | None = None,
        hidden_units: Sequence[int] = (),
        input_order: str | Sequence[int] = "left-to-right",
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.params = check_integer("params", params)
        if event_shape is not None:
            lengths = list(check_integers("event_shape", event_shape))
            event_shape = event_shape if isinstance(event_shape, int) else lengths
        self.event_shape = event_shape
        if not hasattr(hidden_units, "__iter__"):
            raise TypeError(
                f"`hidden_units` must be a list of integers. Received: hidden_units={hidden_units}"
            )
        self.hidden_units = list(check_integers("hidden_units", hidden_units))
        if isinstance(input_order, str):
            check_choice("input_order", input_order, ("left-to-right", "right-to-left"))
        else:
            input_order = list(check_integers("input_order", input_order))
        self.input_order = input_order
        self.activation = keras.activations.get(activation)
        self.use_bias = check_flag("use_bias", use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not input_shape:
            raise ValueError(f"Layer {self.name!r} needs inputs of shape (n, ...). Received: ()")
        entries = input_shape[-1]
        expected = self.event_shape
        if expected is not None and list(np.ravel(expected)) != [entries]:
            raise ValueError(
                f"Layer {self.name!r} needs inputs of `event_shape` entries. "
                f"Received: event_shape={expected}, input_shape={tuple(input_shape)}"
            )
        self.masks, self.kernels, self.biases = self._masks(entries), [], []
        for number, mask in enumerate(self.masks):
            kernel = self.add_weight(
                name=f"kernel_{number}",
                shape=mask.shape,
                initializer=self.kernel_initializer,
                regularizer=self.kernel_regularizer,
                constraint=self.kernel_constraint,
            )
            self.kernels.append(kernel)
            if self.use_bias:
                bias = self.add_weight(
                    name=f"bias_{number}",
                    shape=mask.shape[1:],
                    initializer=self.bias_initializer,
                    regularizer=self.bias_regularizer,
                    constraint=self.bias_constraint,
                )
                self.biases.append(bias)

    def _masks(self, entries):
        order = np.arange(1, entries + 1)
        if self.input_order == "right-to-left":
            order = order[::-1]
        elif not isinstance(self.input_order, str):
            if sorted(self.input_order) != order.tolist():
                raise ValueError(
                    f"`input_order` must be a permutation of 1 to {entries}. "
                    f"Received: input_order={self.input_order}"
                )
            order = np.array(self.input_order)
        # Hidden degrees are spread evenly over those that still lead somewhere.
        degrees = [order]
        for units in self.hidden_units:
            steps = np.arange(1, units + 1) * (entries - 1) / (units + 1)
            degrees.append(np.maximum(np.ceil(steps), 1))
        masks = [before[:, None] <= after for before, after in itertools.pairwise(degrees)]
        masks.append(np.repeat(degrees[-1][:, None] < order, self.params, axis=1))
        return [mask.astype("float32") for mask in masks]

    def call(self, inputs: Any) -> Any:
        outputs = inputs
        for number, (mask, kernel) in enumerate(zip(self.masks, self.kernels)):
            if number:
                outputs = self.activation(outputs)
            outputs = ops.matmul(outputs, kernel * ops.cast(mask, self.compute_dtype))
            if self.use_bias:
                outputs = ops.add(outputs, self.biases[number])
        return ops.reshape(outputs, (*ops.shape(inputs)[:-1], inputs.shape[-1], self.params))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape, self.params)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "params": self.params,
            "event_shape": self.event_shape,
            "hidden_units": self.hidden_units,
            "input_order": self.input_order,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }
