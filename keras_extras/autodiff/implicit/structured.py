"""StructuredStart: structures of tensors, or the weights of a model, as one vector and back."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.flat_vectors import split_entries
from keras_extras._core.model_function import evaluate


class StructuredStart:
    """Where a search for a minimum or fixed point starts: a vector, and functions of vectors.

    Args:
        function: Function of a structure like `start` and of `args`; of a model, of the model
            itself.
        start: Structure of tensors, arrays or numbers, or a built Keras model.
        args: Further arguments of the function.

    Attributes:
        vector: Tensor of one axis.
        dtype: String, its dtype.
    """

    def __init__(self, function: Callable[..., Any], start: Any, args: Sequence[Any]):
        if not callable(function):
            raise TypeError(f"`function` must be callable. Received: function={function!r}")
        if not isinstance(args, tuple | list):
            raise TypeError(f"`args` must be a tuple of arguments. Received: args={args!r}")
        self._function, self._args = function, tuple(args)
        self._model = start if isinstance(start, keras.layers.Layer) else None
        if self._model is not None:
            if not self._model.trainable_variables:
                raise ValueError(
                    "A model as `start` must be built and have trainable weights. "
                    f"Received: start={start!r}"
                )
            start = list(map(ops.copy, self._model.trainable_variables))
        self._structure = start
        leaves = [_as_floats(leaf) for leaf in keras.tree.flatten(start)]
        if not leaves:
            raise ValueError(f"`start` must hold tensors. Received: start={start!r}")
        self._shapes = [tuple(leaf.shape) for leaf in leaves]
        if any(None in shape for shape in self._shapes):
            raise ValueError(
                "`start` must have known shapes, also where a function is compiled. "
                f"Received: shapes {self._shapes}"
            )
        self._dtypes = [keras.backend.standardize_dtype(leaf.dtype) for leaf in leaves]
        kinds = set(self._dtypes)
        self.dtype = kinds.pop() if len(kinds) == 1 else keras.backend.result_type(*kinds)
        self.vector = self._flat(leaves)
        if self.vector.shape[0] == 0:
            raise ValueError(f"`start` must hold numbers. Received: shapes {self._shapes}")

    def _flat(self, parts):
        return ops.concatenate([ops.cast(ops.reshape(part, (-1,)), self.dtype) for part in parts])

    def pack(self, vector: Any) -> Any:
        """Returns the entries of a vector in the structure of `start`."""
        parts = split_entries(vector, self._shapes)
        parts = [ops.cast(part, dtype) for part, dtype in zip(parts, self._dtypes)]
        return keras.tree.pack_sequence_as(self._structure, parts)

    def call(self, vector: Any) -> Any:
        """Returns `function` of the structure of a vector."""
        values = self.pack(vector)
        if self._model is None:
            return self._function(values, *self._args)

        def call(x, **mode):
            return self._function(self._model, *self._args)

        return evaluate(self._model, None, weights=values, penalties=False, call=call).outputs

    def scalar(self, vector: Any) -> Any:
        """Returns `function` of the structure of a vector, a scalar of dtype `dtype`."""
        value = self.call(vector)
        if not hasattr(value, "dtype") or tuple(value.shape) != ():
            shape = getattr(value, "shape", None)
            raise ValueError(
                "`function` must return a scalar tensor, such as the sum or the mean of errors. "
                f"Received: {f'shape {tuple(shape)}' if shape is not None else repr(value)}"
            )
        return ops.cast(value, self.dtype)

    def same(self, vector: Any) -> Any:
        """Returns `function` of the structure of a vector as a vector; raises if it has another."""
        value = self.call(vector)
        try:
            keras.tree.assert_same_structure(value, self._structure)
            parts = list(map(ops.convert_to_tensor, keras.tree.flatten(value)))
            shapes = [tuple(part.shape) for part in parts]
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"`function` must return a structure like `start`. Received: {value!r}"
            ) from error
        if shapes != self._shapes:
            raise ValueError(
                f"`function` must return tensors of the shapes of `start`, {self._shapes}. "
                f"Received: shapes {shapes}"
            )
        return self._flat(parts)


def _as_floats(leaf):
    leaf = ops.convert_to_tensor(leaf)
    dtype = keras.backend.standardize_dtype(leaf.dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise TypeError(
            "`start` must hold floating-point numbers, such as 1.0 in place of 1. "
            f"Received: a tensor of dtype {dtype}"
        )
    return leaf
