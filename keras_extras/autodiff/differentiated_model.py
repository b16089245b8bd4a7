"""DifferentiatedModel: the outputs and the loss of a model as functions of chosen tensors."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.backend import require_tensorflow_or_jax
from keras_extras._core.checks import check_flag, check_integer
from keras_extras._core.data import check_data, check_numbers, paired_targets
from keras_extras._core.inputs import input_place
from keras_extras._core.loss_function import loss_function
from keras_extras._core.model_function import evaluate, is_seed
from keras_extras._core.paths import unique_paths
from keras_extras.autodiff.data import Data, WeightsAndInputs, leaves
from keras_extras.autodiff.dense_derivatives import inner_product
from keras_extras.losses.batch_loss import BatchLoss

_WHOLE = ("weights", "inputs", "both")


class DifferentiatedModel:
    """The outputs and the loss of a model as functions of `values`, a list of tensors.

    Everything else is held fixed: weights that are not trained, moving statistics, and the states
    of seed generators, so that random layers draw the same in every evaluation. What a call
    assigns to them is forgotten.

    Args:
        model: Keras model or layer.
        data: `Data`.
        loss: As in `model.compile`; `None` for the loss that the model was compiled with.
        wrt: `"weights"`, `"inputs"`, `"both"`, or the name or position of one of several inputs.
        training: Boolean, whether layers behave as in training.
        needs_loss: Boolean, whether `loss` is to be used.
        penalties: Boolean, whether regularizers and losses that layers add count.
    """

    def __init__(
        self,
        model: keras.Model,
        data: Data,
        loss: Any = None,
        wrt: str | int = "weights",
        training: bool = False,
        needs_loss: bool = True,
        penalties: bool = True,
    ):
        require_tensorflow_or_jax("Differentiation of models")
        if not isinstance(model, keras.layers.Layer):
            raise TypeError(f"`model` must be a Keras model or layer. Received: model={model!r}")
        self.model = model
        self.training = check_flag("training", training)
        dtypes = {model.compute_dtype, *(variable.dtype for variable in model.variables)}
        self.dtype = "float64" if "float64" in dtypes else keras.config.floatx()
        self.data = data.as_tensors(self.dtype)
        self.num_rows = self.data.num_rows()
        check_numbers("x", self.data.x, may_be_missing=True)
        first_row = self.data.rows(slice(0, 1))
        if not model.built:
            model(first_row.x)
        check_data(*self.data, call=self._predict)
        self.variables = list(model.trainable_variables)
        self.wrt, self._input = wrt, None
        if not isinstance(wrt, str) or wrt not in _WHOLE:
            self.wrt, self._input = "inputs", input_place(wrt, self.data.x, model, _WHOLE)
        self._check_differentiable()
        self._penalties = check_flag("penalties", penalties)
        if needs_loss and loss is None and not penalties:
            raise ValueError(
                "`penalties=False` needs `loss`: the loss that the model was compiled with comes "
                "with its penalties. Received: loss=None, penalties=False"
            )
        self.has_loss = needs_loss
        self.given_loss = getattr(model, "loss", None) if loss is None else loss
        if needs_loss:
            self._pair_targets(first_row)
            first_row = self.data.rows(slice(0, 1))
            self._has_penalties = loss is None  # The model's own loss comes with them.
            self._data_loss = loss_function(model, loss, *first_row, self.dtype, training)

    def _predict(self, x):
        return evaluate(self.model, x, penalties=False).outputs

    def _pair_targets(self, row):
        _, y, weights = self.data
        if y is not None:
            names = getattr(self.model, "output_names", None) or ()
            y = paired_targets(y, self._predict(row.x), self.given_loss, names, weights)
            self.data = self.data._replace(y=y)

    def _inputs_of(self, x):
        """The inputs to differentiate with respect to."""
        inputs = keras.tree.flatten(x)
        return inputs if self._input is None else [inputs[self._input]]

    def _check_differentiable(self):
        if self.wrt != "inputs" and not self.variables:
            raise ValueError(
                f"The model {self.model.name!r} has no trainable weights. Give wrt='inputs', or "
                f"check that not all layers have `trainable=False`. Received: wrt={self.wrt!r}"
            )
        inputs = leaves(self._inputs_of(self.data.x))
        dtypes = [keras.backend.standardize_dtype(leaf.dtype) for leaf in inputs]
        fixed = [dtype for dtype in dtypes if not keras.backend.is_float_dtype(dtype)]
        if self.wrt != "weights" and fixed:
            raise ValueError(
                "Inputs of integers have no derivative: give wrt='weights', or the name or "
                "position of one input. "
                f"Received: wrt={self.wrt!r}, inputs of dtype {', '.join(fixed)}"
            )

    def project(self, vectors: Sequence[Any]) -> None:
        """Makes the inner product of the outputs and some vectors the loss, besides penalties.

        Args:
            vectors: List of tensors like the outputs.
        """
        self._has_penalties = False
        self._data_loss = lambda x, y, outputs, sample_weight: inner_product(
            [ops.cast(output, self.dtype) for output in keras.tree.flatten(outputs)], vectors
        )

    @property
    def values(self) -> list[Any]:
        """The tensors to differentiate with respect to: weights, then inputs."""
        return self.values_of(self.data)

    def values_of(self, data: Data) -> list[Any]:
        """Returns `values` for some rows of the data."""
        weights = [] if self.wrt == "inputs" else map(ops.copy, self.variables)
        inputs = [] if self.wrt == "weights" else self._inputs_of(data.x)
        return [*weights, *inputs]

    @property
    def names(self) -> list[str]:
        """Names of the values for messages: the paths of variables, and of the inputs."""
        weights = [] if self.wrt == "inputs" else unique_paths(self.variables)
        count = 0 if self.wrt == "weights" else len(keras.tree.flatten(self.data.x))
        inputs = ["inputs"] if count == 1 else [f"inputs[{n}]" for n in range(count)]
        return [*weights, *(inputs if self._input is None else [inputs[self._input]])]

    def pack(self, values: Sequence[Any]) -> Any:
        """Returns a list aligned with `values` in the form of public results."""
        if self.wrt == "weights":
            return list(values)
        if self._input is not None:
            return values[0]
        count = 0 if self.wrt == "inputs" else len(self.variables)
        inputs = keras.tree.pack_sequence_as(self.data.x, list(values[count:]))
        return inputs if self.wrt == "inputs" else WeightsAndInputs(list(values[:count]), inputs)

    def unpack(self, vector: Any) -> list[Any]:
        """Returns a vector given in the form of public results as a list aligned with `values`."""
        vector = keras.tree.flatten(vector)
        values = self.values
        if len(vector) != len(values):
            raise ValueError(
                f"`vector` must have {len(values)} arrays, one for each of "
                f"{', '.join(self.names)}. Received: {len(vector)} arrays"
            )
        return [
            as_vector(part, value, name) for part, value, name in zip(vector, values, self.names)
        ]

    def _x(self, values, data):
        count = 0 if self.wrt == "inputs" else len(self.variables)
        if self.wrt == "weights":
            return data.x
        inputs = list(values[count:])
        if self._input is not None:
            inputs = keras.tree.flatten(data.x)
            inputs[self._input] = values[0]
        return keras.tree.pack_sequence_as(data.x, inputs)

    def outputs(self, values: Sequence[Any], data: Data) -> list[Any]:
        """Returns the outputs as a flat list; distributions as their tensors."""
        outputs = self._evaluate(values, data, penalties=False).outputs
        return [ops.convert_to_tensor(output) for output in keras.tree.flatten(outputs)]

    def pack_outputs(self, parts: Sequence[Any]) -> Any:
        """Returns a flat list that is aligned with the outputs in the structure of the outputs."""
        structure = self._predict(self.data.rows(slice(0, 1)).x)
        left = iter(parts)
        return keras.tree.map_structure(lambda _: next(left), structure)

    def loss(
        self, values: Sequence[Any], data: Data, call: Callable[..., Any] | None = None
    ) -> Any:
        """Returns the loss with all penalties, a scalar.

        Args:
            values: List of tensors.
            data: `Data`.
            call: Function `(x, training)` to call in the place of the model. Defaults to `None`.
        """
        x = self._x(values, data)
        found = self._evaluate(
            values,
            data,
            loss=lambda outputs: self._data_loss(x, data.y, outputs, data.sample_weight),
            penalties=self._penalties and not self._has_penalties,
            call=call,
        )
        losses = [found.loss, *found.penalties]
        return sum(ops.cast(ops.sum(loss), found.loss.dtype) for loss in losses)

    def _evaluate(self, values, data, **options):
        weights = None if self.wrt == "inputs" else values[: len(self.variables)]
        return evaluate(self.model, self._x(values, data), self.training, weights, **options)

    def batches(self, batch_size: int | None) -> Iterator[tuple[float, slice, Data]]:
        """Yields parts of the data: their share in the mean over all rows, the rows, the data.

        Args:
            batch_size: Integer; `None` for all rows at once.
        """
        if batch_size is None:
            yield 1.0, slice(None), self.data
            return
        batch_size = check_integer("batch_size", batch_size)
        if self.num_rows is None:
            raise ValueError(
                "`batch_size` needs inputs whose number of rows is known when a function is "
                f"compiled. Give batch_size=None. Received: batch_size={batch_size}"
            )
        self._check_mean_over_rows(batch_size)
        for first in range(0, self.num_rows, batch_size):
            rows = slice(first, min(first + batch_size, self.num_rows))
            yield (rows.stop - rows.start) / self.num_rows, rows, self.data.rows(rows)

    def _check_mean_over_rows(self, batch_size):
        for loss in keras.tree.flatten(self.given_loss):
            is_mean = getattr(loss, "reduction", "mean") in ("sum_over_batch_size", "mean")
            if isinstance(loss, BatchLoss) or not is_mean:
                raise ValueError(
                    "`batch_size` needs a loss that is a mean over rows; of others the batches do "
                    "not add up to the whole. Give batch_size=None. "
                    f"Received: batch_size={batch_size}, loss={loss!r}"
                )

    def state_changes(self) -> tuple[list[Any], list[Any]]:
        """Returns the variables that a call assigns: states of seed generators, and all others."""
        found = self._evaluate(self.values, self.data, penalties=False)
        changed = [variable for variable, _ in found.assigned if not variable.trainable]
        seeds = [variable for variable in changed if is_seed(variable)]
        return seeds, [variable for variable in changed if not is_seed(variable)]


def as_vector(part: Any, value: Any, name: str) -> Any:
    """Returns a tensor of the dtype of `value`, or raises if its shape is another.

    Args:
        part: Array.
        value: Tensor.
        name: String, the weight or input it belongs to.
    """
    check_numbers("vector", part)
    part = ops.convert_to_tensor(part, value.dtype)
    if not _fits(part.shape, value.shape):
        raise ValueError(
            f"`vector` must have shape {tuple(value.shape)} for {name}. "
            f"Received: shape {tuple(part.shape)}"
        )
    return part


def _fits(shape, other):
    """Whether two shapes can be equal, of which compiled functions know not all sizes."""
    return len(shape) == len(other) and all(a == b or None in (a, b) for a, b in zip(shape, other))
