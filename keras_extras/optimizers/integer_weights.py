"""IntegerWeight: a variable of a quantized layer, as the integers that it stands for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.path_patterns import matches
from keras_extras._seams.layers_within import layers_within

_RANGES = {"int8": (-127, 127), "int4": (-8, 7)}
# Of the width of the range, what candidates differ by at least.
_STRIDES = 32
# How many entries of a small matrix a candidate changes in the mean, at least.
_LEAST_CHANGES = 4


@dataclass(frozen=True)
class IntegerWeight:
    """A variable of integers, and the grid that they are on.

    Attributes:
        variable: The variable, of dtype int8.
        scale: The variable that Keras divides by to get from integers to weights.
        shape: The shape of the integers.
        packed_axis: The axis along which two integers share a byte, or `None`.
        lowest: The lowest integer.
        highest: The highest integer.
    """

    variable: keras.Variable
    scale: keras.Variable
    shape: tuple[int, ...]
    packed_axis: int | None
    lowest: int
    highest: int

    @property
    def stride(self) -> int:
        """How many steps of the grid candidates differ by: 1, but more on the fine grid of int8."""
        return max(1, (self.highest - self.lowest) // _STRIDES)

    def share(self, probability: float) -> float:
        """Returns the share of the integers that candidates change, so that it is a few."""
        size = math.prod(self.shape)
        return min(1.0, max(probability, _LEAST_CHANGES / max(1, size)))

    def integers(self) -> Any:
        """Returns the integers, a tensor of dtype int8."""
        stored = ops.copy(self.variable)
        if self.packed_axis is None:
            return stored
        length = self.shape[self.packed_axis]
        return keras.quantizers.unpack_int4(stored, length, axis=self.packed_axis)

    def stored(self, integers: Any) -> Any:
        """Returns what the variable holds for integers.

        Keras' own `pack_int4` works on the host, and not within a compiled step.
        """
        if self.packed_axis is None:
            return integers
        axis = self.packed_axis
        padding = [(0, 0)] * len(self.shape)
        padding[axis] = (0, self.shape[axis] % 2)
        even = ops.pad(ops.cast(integers, "int32"), padding)
        pairs = (*even.shape[:axis], even.shape[axis] // 2, 2, *even.shape[axis + 1 :])
        low, high = ops.unstack(ops.reshape(even, pairs), axis=axis + 1)
        # The upper half carries the sign of the byte.
        return ops.cast(16 * high + ops.mod(low, 16), "int8")

    def check(self) -> None:
        """Raises a ValueError if an integer is beyond the grid."""
        integers = ops.convert_to_numpy(self.integers())
        if integers.size and (integers.min() < self.lowest or integers.max() > self.highest):
            raise ValueError(
                f"The integers of {self.variable.path!r} must lie in [{self.lowest}, "
                f"{self.highest}]. Quantize with a quantizer of that `value_range`, as in "
                "`Int8QuantizationConfig(AbsMaxQuantizer(axis=0, value_range=(-1, 1)))`, or give "
                f"the optimizer another `value_range`. Received: integers from {integers.min()} "
                f"to {integers.max()}"
            )


def integer_weights(
    model: keras.Model,
    patterns: Sequence[str] | None = None,
    value_range: tuple[int, int] | None = None,
) -> list[IntegerWeight]:
    """Returns the weights of quantized layers of a model.

    Args:
        model: The model.
        patterns: Patterns of `variable.path`; `None` for all.
        value_range: The lowest and the highest integer; `None` for those of the layers.

    Raises:
        ValueError: If there are none, a layer that is asked for cannot be searched, a pattern
            matches none of them or a weight of a layer that is not quantized, or an integer is
            beyond the range.
    """
    layers = [layer for layer in layers_within(model) if not isinstance(layer, keras.Model)]
    modes = {id(layer): layer.dtype_policy.quantization_mode for layer in layers}
    quantized = [layer for layer in layers if modes[id(layer)] is not None]
    if not quantized:
        raise ValueError(
            f"The model {model.name!r} has no quantized layer. Call `model.quantize('int8')` or "
            "`model.quantize('int4')` before `compile`. To train a float network in integer "
            "values, take MonteCarloOptimizer with `transforms.Choice`."
        )
    own = {id(v) for layer in quantized for v in layer.weights}
    floats = [v for v in model.trainable_variables if id(v) not in own]
    paths = [v.path for layer in quantized for v in layer.non_trainable_weights]
    for pattern in patterns or ():
        _check_pattern(pattern, paths, floats)

    def is_chosen(variable):
        return patterns is None or any(matches(pattern, variable.path) for pattern in patterns)

    found = []
    for layer in quantized:
        chosen = [v for v in layer.weights if v.name in _names_of(layer) and is_chosen(v)]
        if chosen:
            _check_layer(layer, modes[id(layer)])
            found += [_of_layer(layer, modes[id(layer)], v, value_range) for v in chosen]
    if not found:
        raise ValueError(
            f"`weights` must match the integers of a quantized layer. Received: "
            f"{list(patterns or ())}, which match none of {paths}"
        )
    for weight in found:
        weight.check()
    return found


def _names_of(layer):
    """The names of variables of a layer that have a scale beside them."""
    names = {v.name for v in layer.weights}
    return {name for name in names if f"{name}_scale" in names}


def _check_pattern(pattern, paths, floats):
    unquantized = [v.path for v in floats if matches(pattern, v.path)]
    if unquantized:
        raise ValueError(
            "Each pattern in `weights` must match weights of quantized layers alone. Received: "
            f"{pattern!r}, which matches {unquantized} of layers that are not quantized; quantize "
            "these layers, too, or take a pattern for the others"
        )
    if not any(matches(pattern, path) for path in paths):
        raise ValueError(
            "Each pattern in `weights` must match the integers of a quantized layer. "
            f"Received: {pattern!r}, which matches none of {paths}"
        )


def _check_layer(layer, mode):
    reason = None
    if mode not in _RANGES:
        reason = f"is quantized to {mode!r}; QuantizedSearch takes 'int8' and 'int4'"
    elif getattr(layer, "lora_enabled", False):
        reason = "has LoRA enabled, with which Keras quantizes its kernel again when it is saved"
    elif mode == "int4" and not hasattr(keras.quantizers, "unpack_int4"):
        reason = f"is quantized to 'int4', which Keras {keras.__version__} cannot unpack publicly"
    if reason is not None:
        raise ValueError(
            f"The layer {layer.path!r} cannot be searched: it {reason}. Give `weights` patterns of "
            "the other layers to leave it as it is."
        )


def _of_layer(layer, mode, variable, value_range):
    scale = next(v for v in layer.weights if v.name == f"{variable.name}_scale")
    axis, shape = None, tuple(variable.shape)
    if mode == "int4":
        axis, shape = _packing(layer, variable)
    lowest, highest = value_range or _range_of(layer, mode)
    return IntegerWeight(variable, scale, shape, axis, lowest, highest)


def _range_of(layer, mode):
    """Those of the quantizer that the layer was given, if any."""
    config = getattr(layer, "quantization_config", None)
    quantizer = getattr(config, "weight_quantizer", None)
    return tuple(getattr(quantizer, "value_range", _RANGES[mode]))


def _packing(layer, variable):
    """The axis along which a variable is packed, which versions of Keras differ in; the shape."""
    whole = getattr(layer, variable.name, None)
    size = math.prod(whole.shape) if whole is not None else 0
    stored = ops.convert_to_numpy(variable)
    for axis in (stored.ndim - 1, 0):
        others = math.prod(stored.shape) // max(1, stored.shape[axis])
        length = size // max(1, others)
        if length * others != size or stored.shape[axis] != (length + 1) // 2:
            continue
        unpacked = keras.quantizers.unpack_int4(variable.value, length, axis=axis)
        shape = tuple(unpacked.shape)
        packed = IntegerWeight(variable, variable, shape, axis, -8, 7).stored(unpacked)
        values = ops.reshape(ops.cast(whole, "int8"), shape)
        if np.array_equal(packed, stored) and np.array_equal(values, unpacked):
            return axis, shape
    raise ValueError(
        f"The layer {layer.path!r} cannot be searched: Keras {keras.__version__} packs its int4 "
        "weights in another way than this version of keras-extras knows. Give `weights` patterns "
        "of the other layers, or quantize it to 'int8'."
    )
