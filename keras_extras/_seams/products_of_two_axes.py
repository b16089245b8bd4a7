"""TensorFlow's products with one matrix, in the form that oneDNN has no fault in.

Replaced are `tf.matmul`, `tf.linalg.matmul` and `@` of `tf.Tensor`. A map turns the product of
`(1, m, k)` and one matrix `(k, n)` into that of `(rows, 1, m, k)` and `(1, 1, k, n)`. On processors
with AVX-512 the kernel of oneDNN for it writes beyond its memory and ends the process
(https://github.com/uxlfoundation/oneDNN/pull/4632). Seen in TensorFlow 2.21. A TensorFlow with that
change of oneDNN makes this file unnecessary.
"""

import contextlib
from collections.abc import Callable
from typing import Any

from keras_extras._seams.thread_replacement import ThreadReplacement


def products_of_two_axes() -> contextlib.AbstractContextManager[None]:
    """Within it, a product with one matrix is computed with two axes, in this thread."""
    return _products_of_two_axes.within()


def _products():
    import tensorflow as tf

    flat = _flattening(tf, tf.matmul)
    places = [(tf, "matmul"), (tf.linalg, "matmul"), (tf.Tensor, "__matmul__")]
    return [(owner, name, lambda original: flat) for owner, name in places]


_products_of_two_axes = ThreadReplacement("products_of_two_axes", _products)


def _flattening(tf: Any, product: Callable) -> Callable:
    """Returns a `tf.matmul` that takes a product with one matrix in two axes."""

    def matmul(a, b, transpose_a=False, transpose_b=False, *others, **more):
        is_ragged = any(isinstance(part, tf.RaggedTensor) for part in (a, b))
        if is_ragged or others or any(value for key, value in more.items() if key != "name"):
            return product(a, b, transpose_a, transpose_b, *others, **more)
        a = tf.convert_to_tensor(a, dtype_hint=getattr(b, "dtype", None))
        b = tf.convert_to_tensor(b, dtype_hint=a.dtype)
        if not _is_one_matrix(a, b):
            return product(a, b, transpose_a, transpose_b)
        a = tf.linalg.matrix_transpose(a) if transpose_a else a
        num_ones = max(len(b.shape) - len(a.shape), 0)
        b = tf.reshape(b, _sizes(tf, b)[-2:])
        flat = product(tf.reshape(a, (-1, _sizes(tf, a)[-1])), b, transpose_b=transpose_b)
        return tf.reshape(flat, [1] * num_ones + [*_sizes(tf, a)[:-1], _sizes(tf, flat)[-1]])

    return matmul


def _is_one_matrix(a, b):
    """Whether the second factor is one matrix, and there are other axes than its two."""
    ranks = (a.shape.rank, b.shape.rank)
    return None not in ranks and min(ranks) >= 2 and max(ranks) > 2 and set(b.shape[:-2]) <= {1}


def _sizes(tf, tensor):
    """The sizes of the axes, tensors where they are known at run time only."""
    dynamic = None if tensor.shape.is_fully_defined() else tf.shape(tensor)
    return [dynamic[n] if size is None else size for n, size in enumerate(tensor.shape)]
