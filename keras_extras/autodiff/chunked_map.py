"""ChunkedMap: a function of numbers 0, 1, 2, ..., evaluated for many of them at once."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras


class ChunkedMap:
    """Evaluates `function(number, arguments)` for all numbers below a count.

    Chunks are vectorised and compiled once, whatever their number; what cannot be vectorised is
    evaluated number by number.

    Args:
        function: From a scalar integer tensor and a structure of tensors to a structure of tensors.
        chunk_size: Integer, how many numbers to evaluate at once.
    """

    def __init__(self, function: Callable[[Any, Any], Any], chunk_size: int):
        import tensorflow as tf

        def vectorized(numbers, arguments):
            return tf.vectorized_map(lambda number: function(number, arguments), numbers)

        def one_by_one(numbers, arguments):
            results = [function(number, arguments) for number in tf.unstack(numbers)]
            return keras.tree.map_structure(lambda *parts: tf.stack(parts), *results)

        self._vectorized = tf.function(vectorized, autograph=False)
        self._one_by_one = one_by_one
        self._is_vectorized = True
        self._chunk_size = chunk_size

    def __call__(self, count: int, arguments: Any) -> Any:
        """Returns the results, stacked along a new first axis.

        Args:
            count: Integer, how many numbers.
            arguments: Structure of tensors, the same for all numbers.
        """
        import tensorflow as tf

        size = min(self._chunk_size, count)
        chunks = []
        for first in range(0, count, size):
            # The last chunk has the size of the others, so that nothing is compiled anew for it.
            numbers = tf.minimum(tf.range(first, first + size), count - 1)
            chunk = self._evaluate(numbers, arguments)
            keep = min(size, count - first)
            chunks.append(keras.tree.map_structure(lambda part, keep=keep: part[:keep], chunk))
        return keras.tree.map_structure(lambda *parts: tf.concat(parts, axis=0), *chunks)

    def _evaluate(self, numbers, arguments):
        if self._is_vectorized:
            try:
                # Not called itself, because TensorFlow warns of functions that are often compiled.
                with _quiet():
                    compiled = self._vectorized.get_concrete_function(numbers, arguments)
                return compiled(numbers, arguments)
            except Exception:  # TensorFlow raises of many kinds where it cannot vectorise.
                self._is_vectorized = False
        return self._one_by_one(numbers, arguments)


@contextlib.contextmanager
def _quiet():
    """TensorFlow logs pages about what it cannot vectorise."""
    import tensorflow as tf

    logger = tf.get_logger()
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled
