"""Layers that use both terms of a kernel to which a low-rank candidate adds little.

The kernels of a population of candidates W + l r differ by a column l times a row r. With
`x @ (W + l r) = x @ W + (x @ l) r` the first term is the same for all candidates wherever their
inputs are, and one matrix product for all of them elsewhere. Other layers, and whatever else reads
a kernel, see the sum.

Replaced, in a thread that evaluates a candidate, are `call` of `Dense` and `convolution_op` of
`Conv2D` and `Conv3D`: a variable has one tensor for its value, and none that acts as a matrix
without being one. Known to hold since Keras 3.12. Linear operators as values of variables would
make it unnecessary.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_extras._seams.thread_replacement import ThreadReplacement
from keras_extras._seams.wrapped_methods import owner_of


class RankOne(NamedTuple):
    """The product of a column, of shape `(..., rows, 1)`, and a row, `(..., 1, columns)`."""

    left: Any
    right: Any

    @property
    def product(self) -> Any:
        return self.left * self.right


class LowRankKernel(NamedTuple):
    """A kernel `shared + change.product`."""

    shared: Any
    change: RankOne


def low_rank_kernels(
    kernels: Mapping[int, LowRankKernel],
) -> contextlib.AbstractContextManager[None]:
    """Within this scope, layers with one of these kernels use both of its terms.

    Args:
        kernels: Dict from the `id` of a variable to what stands for it.
    """
    return _calls.within({**(_calls.value or {}), **kernels})


def _places():
    owners = [
        (keras.layers.Dense, "call", _call),
        (keras.layers.Conv2D, "convolution_op", _convolve),
    ]
    return [(owner_of(layer, name), name, make) for layer, name, make in owners]


def _call(stock_call):
    def call(self, inputs, training=None):
        kernel = _calls.value.get(id(self.kernel))
        if kernel is None:
            return stock_call(self, inputs, training=training)
        outputs = _sum_of_terms(ops.matmul, inputs, kernel)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    return call


def _convolve(stock_convolution):
    def convolution_op(self, inputs, kernel):
        known = _calls.value.get(id(kernel))
        if known is None or self.groups > 1 or self.data_format != "channels_last":
            return stock_convolution(self, inputs, kernel)
        return _sum_of_terms(lambda x, filters: stock_convolution(self, x, filters), inputs, known)

    return convolution_op


_calls = ThreadReplacement("low_rank_kernels", _places)


def _sum_of_terms(product, inputs, kernel):
    dtype = inputs.dtype
    row = ops.reshape(ops.cast(kernel.change.right, dtype), (-1,))
    shared = product(inputs, ops.cast(kernel.shared, dtype))
    return shared + product(inputs, ops.cast(kernel.change.left, dtype)) * row
