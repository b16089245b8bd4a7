"""ChunkedMap: a function of numbers 0, 1, 2, ..., evaluated for many of them at once."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras.autodiff import backend


class ChunkedMap:
    """Evaluates `function(number, arguments)` for all numbers below a count.

    Chunks are vectorised and compiled once, whatever their number; what cannot be vectorised is
    evaluated number by number.

    Args:
        function: From a scalar integer tensor and a structure of tensors to a structure of tensors.
        chunk_size: Integer, how many numbers to evaluate at once.
    """

    def __init__(self, function: Callable[[Any, Any], Any], chunk_size: int):
        self._function = function
        self._vectorized = backend.vectorized(function)
        self._is_vectorized = True
        self._chunk_size = chunk_size

    def __call__(self, count: int, arguments: Any) -> Any:
        """Returns the results, stacked along a new first axis.

        Args:
            count: Integer, how many numbers.
            arguments: Structure of tensors, the same for all numbers.
        """
        size = min(self._chunk_size, count)
        chunks = []
        for first in range(0, count, size):
            # The last chunk has the size of the others, so that nothing is compiled anew for it.
            numbers = np.minimum(np.arange(first, first + size), count - 1)
            chunk = self._evaluate(ops.convert_to_tensor(numbers, "int32"), arguments)
            keep = min(size, count - first)
            chunks.append(keras.tree.map_structure(lambda part, keep=keep: part[:keep], chunk))
        return keras.tree.map_structure(lambda *parts: ops.concatenate(parts, axis=0), *chunks)

    def _evaluate(self, numbers, arguments):
        if self._is_vectorized:
            try:
                return self._vectorized(numbers, arguments)
            except Exception:  # TensorFlow raises of many kinds where it cannot vectorise.
                self._is_vectorized = False
        results = [self._function(number, arguments) for number in ops.unstack(numbers)]
        return keras.tree.map_structure(lambda *parts: ops.stack(parts), *results)
