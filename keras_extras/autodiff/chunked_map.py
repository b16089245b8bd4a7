"""ChunkedMap: a function of numbers 0, 1, 2, ..., evaluated for many of them at once."""

import logging
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.backend import is_traced
from keras_extras.autodiff import backend
from keras_extras.autodiff.data import leaves

_LOGGER = logging.getLogger("keras_extras")
_MOST_KEPT = 16

# The compiled functions of each model with their programs, kept as long as the model.
_kept: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class ChunkedMap:
    """Evaluates `function(number, arguments)` for all numbers below a count.

    Chunks are vectorized and compiled once, whatever their number; what cannot be vectorized is
    compiled and evaluated number by number. Compiled functions serve later calls for the same
    model as long as it computes the same.

    Args:
        function: From a scalar integer tensor and a structure of tensors to a structure of tensors.
        chunk_size: Integer, how many numbers to evaluate at once.
        model: The model.
        differentiated: Function from the arguments to tensors, the part of the model whose
            derivatives `function` takes.
        kind: Which derivatives it takes; it depends on nothing else.
        order: Integer, 2 if these are derivatives of derivatives.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], Any],
        chunk_size: int,
        model: keras.Model,
        differentiated: Callable[..., Any],
        kind: Hashable,
        order: int,
    ):
        self._function = function
        self._chunk_size = chunk_size
        self._model = model
        self._differentiated = differentiated
        self._kind = kind
        self._order = order
        self._first = None  # the results of a chunk, by which it was found that it can be compiled

    def __call__(self, count: int, arguments: tuple) -> Any:
        """Returns the results, stacked along a new first axis.

        Args:
            count: Integer, how many numbers.
            arguments: Structures of tensors, the same for all numbers.
        """
        size = min(self._chunk_size, count)
        compiled = None
        chunks = []
        for first in range(0, count, size):
            # The last chunk has the size of the others, so that nothing is compiled for it.
            numbers = np.minimum(np.arange(first, first + size), count - 1)
            numbers = ops.convert_to_tensor(numbers, "int32")
            compiled = compiled or self._compiled(numbers, arguments)
            chunk, self._first = self._first, None
            chunk = compiled(numbers, arguments) if chunk is None else chunk
            keep = min(size, count - first)
            chunks.append(keras.tree.map_structure(lambda part, keep=keep: part[:keep], chunk))
        return keras.tree.map_structure(lambda *parts: ops.concatenate(parts, axis=0), *chunks)

    def _compiled(self, numbers, arguments):
        """Returns the compiled function, from an earlier call for the model if there is one."""
        tensors = leaves((numbers, arguments))
        program = backend.program(self._differentiated, *arguments)
        if program is None or any(map(is_traced, tensors)):
            has_loops = program is not None and program.has_loops
            return self._compile(numbers, arguments, has_loops) or _one_by_one(self._function)
        kept = _kept.setdefault(self._model, {})
        forms = tuple((tuple(t.shape), keras.backend.standardize_dtype(t.dtype)) for t in tensors)
        key = (self._kind, forms)
        known = kept.pop(key, None)
        if known is None or known[0] != program:
            known = (program, self._compile(numbers, arguments, program.has_loops))
        if known[1] is None:
            return _one_by_one(self._function)
        kept[key] = known
        if len(kept) > _MOST_KEPT:
            del kept[next(iter(kept))]
        return known[1]

    def _compile(self, numbers, arguments, has_loops):
        """Returns the compiled function, or None if it cannot be compiled."""
        obstacle = "it has loops"  # TensorFlow fails at second derivatives of these, after long.
        if not (has_loops and self._order == 2):
            vectorized = backend.vectorized(self._function)
            try:
                compiled = backend.compiled_for(vectorized, numbers, arguments)
                self._first = compiled(numbers, arguments)
                return compiled
            except Exception as error:  # TensorFlow raises of many kinds where it cannot vectorize.
                obstacle = str(error).strip().split("\n")[0]
        _LOGGER.warning(
            "Derivatives of %r are computed one after another, because they cannot be vectorized: "
            "%s",
            self._model.name,
            obstacle,
        )
        try:
            return _one_by_one(backend.compiled_for(self._function, numbers[0], arguments))
        except Exception:  # Of any kind: what asks for values of tensors cannot be compiled.
            return None


def _one_by_one(function):
    def evaluate(numbers, arguments):
        results = [function(number, arguments) for number in ops.unstack(numbers)]
        return keras.tree.map_structure(lambda *parts: ops.stack(parts), *results)

    return evaluate
