"""DerivativeWrapper: the base of layers that differentiate the network that they wrap."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_extras._core.backend import require_tensorflow_or_jax
from keras_extras._core.differentiation import check_second_derivatives, vector_jacobian_products
from keras_extras._core.masks import mask_of, with_mask
from keras_extras._core.model_function import evaluate
from keras_extras.layers.derivative_objectives.differentiated_inputs import DifferentiatedInputs


class DerivativeWrapper(keras.layers.Wrapper):
    """Base class of layers around a layer or model whose derivatives the objective holds.

    The wrapped network is called once, as if it stood alone: in its own dtype policy, with the
    masks and the training mode that it would get, and with its own losses.

    Args:
        layer: A `keras.layers.Layer` or a whole model.
        wrt: Name or position of one of several inputs to differentiate by, or `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name`.
    """

    def __init__(self, layer: keras.layers.Layer, wrt: str | int | None = None, **kwargs: Any):
        require_tensorflow_or_jax(f"keras_extras.layers.{type(self).__name__}")
        # Without autocast: inputs reach the network as they are, and it casts them itself.
        super().__init__(layer, **{"autocast": False, **kwargs})
        self.supports_masking = True
        if wrt is not None and type(wrt) not in (str, int):
            raise TypeError(
                "`wrt` must be the name or position of one of several inputs, or None. "
                f"Received: wrt={wrt!r}"
            )
        self.wrt = wrt
        self._is_checked = False

    def differentiate(self, products: Callable, inputs: Any, *arguments: Any) -> tuple[Any, list]:
        """Calls the network and returns its output with products of its Jacobian.

        Args:
            products: `vector_jacobian_products` or `jacobian_vector_products`.
            inputs: `DifferentiatedInputs` of `call`.
            *arguments: What `products` takes behind function and value.
        """
        changed: list = []

        def call_layer(value):
            """The output, and what the call leaves behind: states, losses and a mask."""
            x = inputs.inputs_of(value)
            found = evaluate(self.layer, x, training=None, penalties=False)
            self._check_output(found.outputs)
            changed[:] = [variable for variable, _ in found.assigned]
            states = [state for _, state in found.assigned]
            return found.outputs, (states, found.added, mask_of(found.outputs))

        self._check_second_derivatives(call_layer, inputs.value)
        (output, left_behind), derivatives = products(call_layer, inputs.value, *arguments)
        states, losses, mask = left_behind
        for variable, state in zip(changed, states):
            variable.assign(state)
        for loss in losses:
            self.add_loss(loss)
        if any(derivative is None for derivative in derivatives):
            raise ValueError(
                f"{type(self).__name__} needs a network whose output has a derivative with "
                f"respect to its inputs. Received: layer={self.layer.name!r}, whose output does "
                "not depend on them through differentiable operations; look for rounding, argmax "
                "or an Embedding of integers."
            )
        return with_mask(output, mask), derivatives

    def _check_second_derivatives(self, call_layer, value):
        """Raises at the first call if training cannot differentiate the derivatives."""
        if self._is_checked:
            return

        def gradient(values):
            return vector_jacobian_products(call_layer, values[0], lambda y: [ops.ones_like(y)])[1]

        check_second_derivatives(gradient, [value])
        self._is_checked = True

    def differentiated(self, inputs: Any, needs_one: bool = False) -> DifferentiatedInputs:
        """Returns what to differentiate by.

        Args:
            inputs: The inputs of `call`.
            needs_one: Boolean, whether it must be one tensor. Defaults to `False`.
        """
        if needs_one and self.wrt is None and len(keras.tree.flatten(inputs)) > 1:
            raise ValueError(
                f"{type(self).__name__} needs `wrt`, the name or position of one of several "
                "inputs. Received: wrt=None"
            )
        return DifferentiatedInputs(inputs, self.wrt, self.layer, type(self).__name__)

    def _check_output(self, output):
        # Distributions count as tensors for Keras.
        if not ops.is_tensor(output) or hasattr(output, "made_from"):
            raise TypeError(
                f"{type(self).__name__} needs a network of one output tensor; below a layer of "
                "distributions, wrap the layers that give its parameters. Received: "
                f"layer={self.layer.name!r}, whose output is a {type(output).__name__}"
            )

    def compute_output_spec(self, *arguments: Any, **keywords: Any) -> Any:
        # Traces the call, so that a missing derivative is an error while models are put together.
        return keras.Operation.compute_output_spec(self, *arguments, **keywords)

    def build(self, input_shape: Any = None) -> None:
        if _is_shape(input_shape) and len(input_shape) < 2:
            raise ValueError(
                f"{type(self).__name__} needs inputs of shape (n, ...). "
                f"Received: input_shape={input_shape}"
            )
        super().build(input_shape)

    def compute_output_shape(self, input_shape: Any) -> Any:
        inputs = keras.tree.map_shape_structure(keras.KerasTensor, input_shape)
        spec = self.compute_output_spec(inputs)
        return keras.tree.map_structure(lambda tensor: tensor.shape, spec)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """None, because the output of the network bears the mask that the network gave it."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "wrt": self.wrt}


def _is_shape(structure):
    is_tuple = isinstance(structure, tuple)
    return is_tuple and all(size is None or isinstance(size, int) for size in structure)


def unit_vectors(output: Any) -> list[Any]:
    """For each output, a tensor of the shape of `output` that is one there and zero elsewhere."""
    shape = known_shape(output)
    size = math.prod(shape)
    units = ops.reshape(ops.eye(size, dtype=output.dtype), (size, *shape))
    return [ops.zeros_like(output) + units[i] for i in range(size)]


def known_shape(tensor: Any, kind: str = "output") -> tuple[int, ...]:
    """The shape of a row of an output or an input."""
    shape = tuple(tensor.shape[1:])
    if None in shape:
        raise ValueError(
            f"Derivatives of each {kind} need {kind}s of which all sizes but that of the batch are "
            f"known. Received: an {kind} of shape {tuple(tensor.shape)}"
        )
    return shape


def sums_of_squares(values: Any) -> Any:
    """The sum for each row, in float32 at least."""
    values = ops.cast(values, keras.backend.result_type(values.dtype, "float32"))
    return ops.sum(ops.square(values), axis=tuple(range(1, len(values.shape))))
