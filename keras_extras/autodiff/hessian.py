"""hessian: all second derivatives of a model's loss, or those on the diagonal."""

from typing import Any

import keras

from keras_extras._core.checks import check_choice, check_flag, check_integer
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.flat_vectors import flat, num_entries, split_entries, unit_vector
from keras_extras.autodiff.arguments import DATA, LOSS, TRAINING
from keras_extras.autodiff.batches import mean_over_batches
from keras_extras.autodiff.chunked_map import ChunkedMap
from keras_extras.autodiff.data import Data
from keras_extras.autodiff.dense_derivatives import CURVATURE_MODES, hessian_product
from keras_extras.autodiff.differentiated_model import DifferentiatedModel
from keras_extras.autodiff.second_derivatives import check_second_derivatives


@fill_docstring(data=DATA, loss=LOSS, training=TRAINING)
def hessian(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    loss: Any = None,
    penalties: bool = True,
    wrt: str | int = "weights",
    sample_weight: Any = None,
    training: bool = False,
    diagonal: bool = False,
    batch_size: int | None = None,
    chunk_size: int = 64,
    mode: str = "reverse_over_reverse",
) -> Any:
    """Returns the matrix of second derivatives of a model's loss, or its diagonal.

    ```
    H_ij = d^2 L / d w_i d w_j,  w = (model.trainable_variables, each flattened), then the inputs
    ```

    It is computed column by column, `chunk_size` of them at once: each is a product of the Hessian
    and a unit vector. That takes the time of as many gradients as there are weights, for the
    diagonal too, and the matrix the memory of their square. The loss and what is held fixed are
    those of `gradient`.

    Args:
        {data}
        y: Targets; `None` if the loss needs none. Defaults to `None`.
        {loss}
        wrt: With respect to what: `"weights"`, those that are trained, `"inputs"`, all rows of
            them, `"both"`, the weights before the inputs, or one of several inputs, by its name or
            position. Defaults to `"weights"`.
        sample_weight: Weights of the rows, as in `fit`. Defaults to `None`.
        {training}
        diagonal: Boolean, whether to return `H_ii` only. Defaults to `False`.
        batch_size: Integer, rows to compute at once, as in `gradient`, with `wrt="weights"`; `None`
            for all. Defaults to `None`.
        chunk_size: Integer, columns to compute at once. Memory grows with it, and for small models
            so does the speed. Defaults to `64`.
        mode: `"reverse_over_reverse"` or `"forward_over_reverse"`, as in `hessian_vector_product`.
            Defaults to `"reverse_over_reverse"`.

    Returns:
        A tensor of shape `(n, n)` for `n` weights. The diagonal has the form of the gradient: of
        weights, a list of tensors aligned with `model.trainable_variables`; of inputs, a structure
        like `x`; of both, a `WeightsAndInputs`.

    Raises:
        TypeError: If `model` is no Keras model or layer.
        ValueError: If an argument does not fit, as in `gradient`, or `batch_size` is given for
            inputs.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import autodiff

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.random.default_rng(0).normal(size=(8, 3)), np.zeros((8, 1))
    np.linalg.eigvalsh(autodiff.hessian(model, x, y))  # of the 4 weights
    ```
    """
    check_choice("mode", mode, CURVATURE_MODES)
    check_flag("diagonal", diagonal)
    chunk_size = check_integer("chunk_size", chunk_size)
    if batch_size is not None and wrt != "weights":
        raise ValueError(
            "`batch_size` needs wrt='weights': derivatives by all pairs of inputs are of all rows "
            f"at once. Received: batch_size={batch_size!r}, wrt={wrt!r}"
        )
    function = DifferentiatedModel(
        model, Data(x, y, sample_weight), loss, wrt, training, penalties=penalties
    )
    check_second_derivatives(function)
    size = num_entries(function.values)

    def column(number, arguments):
        values, data = arguments
        vector = unit_vector(number, values)
        product = flat(
            hessian_product(lambda values: function.loss(values, data), values, vector, mode)
        )
        return product[number] if diagonal else product

    kind = ("hessian", mode, diagonal)
    columns = ChunkedMap(column, chunk_size, model, function.loss, kind, order=2)
    matrix = mean_over_batches(
        function, lambda values, data: columns(size, (values, data)), batch_size
    )
    if not diagonal:
        return matrix
    return function.pack(split_entries(matrix, [value.shape for value in function.values]))
