"""The data that a posterior is conditioned on, checked and paired with the model's distribution."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.data import check_data, check_numbers
from keras_extras._core.targets import match_targets
from keras_extras.inference.predict_distribution import rows_of
from keras_extras.inference.weight_function import WeightFunction


def observations(
    function: WeightFunction,
    x: Any,
    y: Any,
    batch_size: int | None = None,
    known: dict[Any, Any] | None = None,
) -> tuple[Any, Any]:
    """Returns inputs and targets as tensors, the targets shaped as draws of the distribution.

    Compiled functions do not know all sizes, so that shapes are compared here.

    Args:
        function: The model.
        x: Inputs, an array or a structure of arrays.
        y: Targets, an array.
        batch_size: Integer, rows that the distribution is made of; `None` for all. Defaults to
            `None`.
        known: Dict that keeps the draws of rows of a kind for the next batch. Defaults to `None`.

    Raises:
        TypeError, ValueError: If data or weights are not real and finite, or targets do not fit.
    """
    check_data(x, y, call=function.model)
    check_numbers("model.trainable_variables", function.variables)
    x, y = keras.tree.map_structure(ops.convert_to_tensor, x), ops.convert_to_tensor(y)
    num_rows = keras.tree.flatten(x)[0].shape[0]
    if not y.shape or y.shape[0] != num_rows:
        raise ValueError(
            "Inference cannot pair targets and inputs: `y` must have one row for each row of `x`. "
            f"Received: y.shape={tuple(y.shape)}, "
            f"{num_rows} rows of `x`"
        )
    known = {} if known is None else known
    kind = tuple(
        (keras.backend.standardize_dtype(leaf.dtype), *leaf.shape[1:])
        for leaf in keras.tree.flatten((x, y))
    )
    if kind not in known:
        first = slice(0, num_rows if batch_size is None else batch_size)
        distribution = function.distribution(function.parameters(None, (), rows_of(x, first)))
        matched = match_targets(y[first], distribution, "Inference")
        known[kind] = matched.dtype, tuple(matched.shape[1:])
    dtype, row = known[kind]
    return x, ops.reshape(ops.cast(y, dtype), (num_rows, *row))
