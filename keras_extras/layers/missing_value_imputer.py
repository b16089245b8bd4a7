"""Fills in missing values with statistics of the training data."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import check_choice, check_flag, check_inputs, check_number
from keras_extras._core.registration import serializable
from keras_extras._core.stateless import own_values

_STATISTICS: dict[str, Callable[..., np.ndarray]] = {"median": np.nanmedian, "mean": np.nanmean}


@serializable
class MissingValueImputer(keras.layers.Layer):
    """Puts each column's median or mean in the place of its missing values.

    The statistics are learned by `adapt(data)`, as in `keras.layers.Normalization`, and saved with
    the layer. It may be part of a model or of a `tf.data` pipeline. NaN always counts as missing.

    Args:
        sentinel: The number that stands for a missing value, or `None` where only NaN does. It is
            compared with the inputs as they come, before any cast to the layer's compute dtype.
            Defaults to `-999.0`, as in the Higgs challenge's events.
        strategy: `"median"` or `"mean"`, of the values of a column that are there. Defaults to
            `"median"`.
        add_indicator: Whether to append to the columns, for each of them, one that is 1 where its
            value was missing and 0 elsewhere. Defaults to `False`.
        **kwargs: Of `keras.layers.Layer`, such as `name` and `dtype`.

    Weights:
        `statistics` (d,), not trainable.

    Input shape:
        `(batch, ..., d)`, of rank 2 or more, floats or integers.

    Output shape:
        That of the input, or `(batch, ..., 2 d)` with `add_indicator=True`.

    Raises:
        ValueError: If the layer is given data before it was adapted or loaded.

    Example:

    ```python
    import numpy as np
    import keras_extras

    imputer = keras_extras.layers.MissingValueImputer()
    imputer.adapt(np.array([[1.0, 5.0], [2.0, -999.0], [9.0, 7.0]]))
    filled = imputer(np.array([[-999.0, np.nan]]))  # [[2.0, 6.0]]
    ```
    """

    def __init__(
        self,
        sentinel: float | None = -999.0,
        strategy: str = "median",
        add_indicator: bool = False,
        **kwargs: Any,
    ):
        # No autocast: a sentinel must be met as it came, not rounded to the compute dtype.
        super().__init__(autocast=False, **kwargs)
        self.sentinel = None if sentinel is None else check_number("sentinel", sentinel)
        self.strategy = check_choice("strategy", strategy, tuple(_STATISTICS))
        self.add_indicator = check_flag("add_indicator", add_indicator)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_masking = True
        self._adapted = False

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        # NaN until adapted, so that the weight itself says whether it holds statistics.
        self.statistics = self.add_weight(
            name="statistics",
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(float("nan")),
            trainable=False,
            autocast=False,
        )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: input_shape[-1]})

    def adapt(self, data: Any) -> None:
        """Learns the statistic of each column.

        Args:
            data: An array or tensor of shape `(rows, ..., d)`, a pandas DataFrame, or an iterable
                of batches such as a batched `tf.data.Dataset`, of which tuples count by their first
                element. An exact median needs all values at once: they are held in memory.

        Raises:
            ValueError: If a column has no value at all, the number of columns is not the one that
                the layer was built with, or there is no data.
            TypeError: If `data` holds no numbers.
        """
        values = _to_numpy(data)
        if values.dtype.kind in "OSU":
            raise TypeError(f"`data` must hold numbers. Received: data of dtype {values.dtype}")
        if values.ndim < 2:
            raise ValueError(
                "`data` must have shape (rows, ..., columns). "
                f"Received: data of shape {values.shape}"
            )
        values = values.reshape(-1, values.shape[-1])
        if not self.built:
            self.build((None, values.shape[-1]))
        if values.shape[-1] != self.statistics.shape[0]:
            raise ValueError(
                "`data` must have as many columns as the layer was built with, "
                f"{self.statistics.shape[0]}. Received: data with {values.shape[-1]} columns"
            )
        missing = np.isnan(values)
        if self.sentinel is not None:
            # Also as a table of single precision holds it.
            missing |= np.isin(values, [self.sentinel, np.float32(self.sentinel)])
        empty = missing.all(axis=0)
        if empty.any():
            names = getattr(data, "columns", range(values.shape[-1]))
            raise ValueError(
                "Every column of `data` must have a value that is not missing. Received: data with "
                f"nothing but missing values in column {[names[i] for i in np.flatnonzero(empty)]}"
            )
        present = np.where(missing, np.nan, values.astype("float64"))
        self.statistics.assign(_STATISTICS[self.strategy](present, axis=0))
        self._adapted = True

    def call(self, inputs: Any) -> Any:
        check_inputs(self.name, inputs)
        self._check_adapted()
        if not keras.backend.is_float_dtype(inputs.dtype):
            inputs = ops.cast(inputs, "float32")
        missing = ops.isnan(inputs)
        if self.sentinel is not None:
            sentinel = ops.convert_to_tensor(self.sentinel, inputs.dtype)
            missing = ops.logical_or(missing, ops.equal(inputs, sentinel))
        filled = ops.where(
            missing,
            ops.cast(self.statistics, self.compute_dtype),
            ops.cast(inputs, self.compute_dtype),
        )
        if self.add_indicator:
            return ops.concatenate([filled, ops.cast(missing, self.compute_dtype)], axis=-1)
        return filled

    def _check_adapted(self):
        if not self._adapted:
            self._adapted = self._has_been_given_statistics()
        if not self._adapted:
            advice = (
                " Statistics that came by `set_weights` are seen when the layer or its model is "
                "called directly, as in `model(x)`, before `fit`, `evaluate` and `predict`."
            )
            raise ValueError(
                f"The layer '{self.name}' has no statistics yet. Call its `adapt(data)` before "
                f"giving it data.{advice if keras.backend.backend() == 'jax' else ''}"
            )

    def _has_been_given_statistics(self):
        """Whether `set_weights` brought them, beside whatever graph is being traced."""
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            with own_values(), tf.init_scope():
                return _holds_numbers(self.statistics)
        if keras.backend.backend() == "jax":
            import jax

            # While JAX traces, the numbers are out of reach.
            is_traced = isinstance(self.statistics.value, jax.core.Tracer)
            return not is_traced and _holds_numbers(self.statistics)
        return _holds_numbers(self.statistics)

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        self._adapted = _holds_numbers(self.statistics)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        *rows, columns = input_shape
        if columns is not None and self.add_indicator:
            columns *= 2
        return (*rows, columns)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "sentinel": self.sentinel,
            "strategy": self.strategy,
            "add_indicator": self.add_indicator,
        }


def _to_numpy(data: Any) -> np.ndarray:
    if hasattr(data, "columns"):  # A DataFrame, whose nullable columns have no NaN of their own.
        return data.to_numpy(dtype="float64", na_value=np.nan)
    if hasattr(data, "__array__") or isinstance(data, (list, tuple)):
        return ops.convert_to_numpy(data)
    if not isinstance(data, Iterable):
        raise TypeError(
            "`data` must be an array, a tensor, a DataFrame or an iterable of batches. "
            f"Received: data of type {type(data).__name__}"
        )
    batches = [batch[0] if isinstance(batch, tuple) else batch for batch in data]
    if not batches:
        raise ValueError("`data` must yield at least one batch. Received: none")
    return np.concatenate([ops.convert_to_numpy(batch) for batch in batches])


def _holds_numbers(statistics: keras.Variable) -> bool:
    return not np.isnan(np.asarray(statistics)).any()
