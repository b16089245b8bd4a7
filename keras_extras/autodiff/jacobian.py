"""jacobian: the derivatives of all outputs of a model."""

import itertools
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_choice, check_integer
from keras_extras._core.differentiation import jacobian_vector_product
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.flat_vectors import (
    flat,
    flat_rows,
    num_entries,
    split_entries,
    unit_vector,
)
from keras_extras.autodiff.arguments import DATA, TRAINING, WRT
from keras_extras.autodiff.chunked_map import ChunkedMap
from keras_extras.autodiff.data import Data, WeightsAndInputs
from keras_extras.autodiff.dense_derivatives import pullback
from keras_extras.autodiff.differentiated_model import DifferentiatedModel
from keras_extras.autodiff.second_derivatives import check_second_derivatives


@fill_docstring(data=DATA, wrt=WRT, training=TRAINING)
def jacobian(
    model: keras.Model,
    x: Any,
    *,
    wrt: str | int = "weights",
    training: bool = False,
    mode: str = "auto",
    chunk_size: int = 64,
) -> Any:
    """Returns the derivatives of a model's outputs, for each row of the inputs.

    ```
    J[n, i, j] = d f_i(x_n) / d w_j,  or  d f_i(x_n) / d x_nj
    ```

    Forward mode computes columns, one for each weight or entry of an input row; reverse mode
    computes rows, one for each entry of an output. Rows of data are taken to be independent of each
    other, as they are in prediction. Distributions count as the tensors that they convert to. What
    is held fixed is as in `gradient`.

    Args:
        {data}
        {wrt}
        {training}
        mode: `"forward"`, `"reverse"`, or `"auto"` for the one that takes fewer passes. Defaults
            to `"auto"`.
        chunk_size: Integer, passes to compute at once. Memory grows with it, and for small models
            so does the speed. Defaults to `64`.

    Returns:
        A structure like the outputs of the model. In the place of each output, of weights, there
        is a list of tensors of shape `output.shape + variable.shape` aligned with
        `model.trainable_variables`; of inputs, a structure like `x` of tensors of shape
        `output.shape + x.shape[1:]`; of both, a `WeightsAndInputs`.

    Raises:
        TypeError: If `model` is no Keras model or layer.
        ValueError: If inputs to differentiate are integers, an output has other rows than `x`, or,
            with `training=True`, a layer such as batch normalization makes rows depend on each
            other.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import autodiff

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh")])
    x = np.ones((8, 3))
    autodiff.jacobian(model, x, wrt="inputs")  # of shape (8, 2, 3)
    kernel, bias = autodiff.jacobian(model, x)  # of shapes (8, 2, 3, 2) and (8, 2, 2)
    ```
    """
    check_choice("mode", mode, ("auto", "forward", "reverse"))
    chunk_size = check_integer("chunk_size", chunk_size)
    sides = ("weights", "inputs") if wrt == "both" else (wrt,)
    functions = [
        DifferentiatedModel(model, Data(x), wrt=side, training=training, needs_loss=False)
        for side in sides
    ]
    results = [_jacobians(function, mode, chunk_size) for function in functions]
    of_outputs = results[0] if wrt != "both" else itertools.starmap(WeightsAndInputs, zip(*results))
    return functions[0].pack_outputs(list(of_outputs))


def _jacobians(function, mode, chunk_size):
    """A list with what belongs to each output."""
    seeds, statistics = function.state_changes()
    if statistics:
        raise ValueError(
            "With training=True the rows of a batch depend on each other through "
            f"{', '.join(v.path for v in statistics)}, and have no Jacobian each of their own. "
            "Give training=False, or take `jacobian_vector_product`. Received: training=True"
        )
    is_weights = function.wrt == "weights"
    outputs = function.outputs(function.values, function.data)
    for output in outputs:
        if tuple(output.shape[:1]) != (function.num_rows,):
            raise ValueError(
                "A Jacobian for each row needs outputs with as many rows as `x`, which has "
                f"{function.num_rows}. Received: an output of shape {tuple(output.shape)}"
            )
    of_row = [output[0] for output in outputs]
    wide = function.values if is_weights else [value[0] for value in function.values]
    num_outputs, num_values = (num_entries(tensors) for tensors in (of_row, wide))
    # Random numbers belong to a row's place in the batch, so that rows cannot be taken alone.
    alone = is_weights and not seeds
    rows = 1 if alone or not is_weights else function.num_rows
    if mode == "auto":
        mode = "forward" if num_values < rows * num_outputs else "reverse"
    if mode == "forward":
        check_second_derivatives(function)
        matrix = _by_columns(function, wide, num_values, chunk_size)
    elif not is_weights:
        matrix = _by_rows_together(function, of_row, num_outputs, chunk_size)
    else:
        matrix = _by_rows(function, of_row, num_outputs, chunk_size, alone)
    return _packed(function, matrix, of_row, wide)


def _by_columns(function, wide, count, chunk_size):
    """Forward mode: along one weight, or along one entry of all rows of inputs."""

    def column(number, arguments):
        values, data = arguments
        vector = [
            ops.broadcast_to(part, ops.shape(value))
            for part, value in zip(unit_vector(number, wide), values)
        ]
        _, product = jacobian_vector_product(lambda v: function.outputs(v, data), values, vector)
        return flat_rows(product)

    columns = _map(column, chunk_size, function, "columns", order=2)(count)
    return ops.transpose(columns, (1, 2, 0))


def _by_rows_together(function, of_row, count, chunk_size):
    """Reverse mode: one entry of the outputs of all rows, by inputs."""

    def gradient(number, arguments):
        values, data = arguments
        vector = unit_vector(number, of_row)
        return flat_rows(pullback(lambda v: function.outputs(v, data), values, vector))

    gradients = _map(gradient, chunk_size, function, "rows together")(count)
    return ops.transpose(gradients, (1, 0, 2))


def _by_rows(function, of_row, count, chunk_size, alone):
    """Reverse mode: one entry of the outputs of one row, by weights."""

    def gradient(number, arguments):
        values, data = arguments
        row, entry = number // count, number % count
        vector = [part[None] for part in unit_vector(entry, of_row)]
        if alone:
            data = keras.tree.map_structure(
                lambda part: None if part is None else ops.take(part, row[None], axis=0), data
            )
        else:
            chosen = ops.one_hot(row, function.num_rows)
            vector = [_times_rows(ops.cast(chosen, part.dtype), part) for part in vector]
        return flat(pullback(lambda v: function.outputs(v, data), values, vector))

    pairs = function.num_rows * count
    kind = "rows alone" if alone else "rows"
    gradients = _map(gradient, chunk_size, function, kind)(pairs)
    return ops.reshape(gradients, (function.num_rows, count, -1))


def _map(compute, chunk_size, function, kind, order=1):
    of_numbers = ChunkedMap(
        compute, chunk_size, function.model, function.outputs, ("jacobian", kind), order
    )
    return lambda count: of_numbers(count, (function.values, function.data))


def _times_rows(factors, tensor):
    return ops.reshape(factors, (-1, *(1,) * (len(tensor.shape) - 1))) * tensor


def _packed(function, matrix, of_row, wide):
    shapes = [value.shape for value in wide]
    return [
        function.pack(split_entries(rows, shapes))
        for rows in split_entries(matrix, [output.shape for output in of_row], axis=1)
    ]
