"""ModelFunction: a Keras model and its loss as pure functions of weights and inputs."""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_extras._core.backend import require_tensorflow
from keras_extras._core.checks import check_choice, check_integer
from keras_extras.autodiff.products import inner_product
from keras_extras.autodiff.weights_and_inputs import WeightsAndInputs
from keras_extras.losses.batch_loss import BatchLoss


class Data(NamedTuple):
    """Tensors, or structures of them, with one row for each row of data."""

    x: Any
    y: Any = None
    sample_weight: Any = None


class ModelFunction:
    """What is differentiated: `values`, a list of tensors, to the outputs or the loss of a model.

    Everything else is held fixed: weights that are not trained, moving statistics, and the states
    of seed generators, so that random layers draw the same in every evaluation. What a call
    assigns to them is forgotten.

    Args:
        model: Keras model or layer.
        data: `Data`.
        loss: As in `model.compile`; `None` for the loss that the model was compiled with.
        wrt: `"weights"`, `"inputs"` or `"both"`.
        training: Boolean, whether layers behave as in training.
        needs_loss: Boolean, whether `loss` is to be used.
    """

    def __init__(
        self,
        model: keras.Model,
        data: Data,
        loss: Any = None,
        wrt: str = "weights",
        training: bool = False,
        needs_loss: bool = True,
    ):
        require_tensorflow("Differentiation of models")
        if not isinstance(model, keras.layers.Layer):
            raise TypeError(f"`model` must be a Keras model or layer. Received: model={model!r}")
        self.model = model
        self.wrt = check_choice("wrt", wrt, ("weights", "inputs", "both"))
        self.training = training
        dtypes = {model.compute_dtype, *(variable.dtype for variable in model.variables)}
        self.dtype = "float64" if "float64" in dtypes else keras.config.floatx()
        self.data = Data(*(self._tensors(part) for part in data))
        self.num_rows = self._check_rows(data)
        first_row = self.rows_of(self.data, slice(0, 1))
        if not model.built:
            model(first_row.x)
        self.variables = list(model.trainable_variables)
        self._check_differentiable()
        if needs_loss:
            self._has_penalties = loss is None  # The model's own loss comes with them.
            self._data_loss = self._make_data_loss(loss, first_row)

    def _tensors(self, structure):
        def tensor(values):
            if values is None:
                return None
            if not ops.is_tensor(values):
                values = np.asarray(values)
            dtype = keras.backend.standardize_dtype(values.dtype)
            return ops.convert_to_tensor(values, self.dtype if "float" in dtype else dtype)

        return keras.tree.map_structure(tensor, structure)

    def _check_rows(self, data):
        names = dict(zip(Data._fields, self.data))
        if not keras.tree.flatten(self.data.x) or self.data.x is None:
            raise ValueError(f"`x` must be an array or a structure of arrays. Received: {data.x!r}")
        lengths = {
            name: {leaf.shape[0] if leaf.shape else 0 for leaf in _leaves(part)}
            for name, part in names.items()
        }
        known = set().union(*lengths.values()) - {None}
        if len(known) > 1 or known == {0}:
            raise ValueError(
                "`x`, `y` and `sample_weight` must have rows, equally many in all of them. "
                f"Received: { ({name: sorted(n) for name, n in lengths.items() if n}) } rows"
            )
        return known.pop() if known else None

    def _check_differentiable(self):
        if self.wrt != "inputs" and not self.variables:
            raise ValueError(
                f"The model {self.model.name!r} has no trainable weights. Give wrt='inputs', or "
                f"check that not all layers have `trainable=False`. Received: wrt={self.wrt!r}"
            )
        fixed = [leaf.dtype.name for leaf in _leaves(self.data.x) if not leaf.dtype.is_floating]
        if self.wrt != "weights" and fixed:
            raise ValueError(
                "Inputs of integers have no derivative: give wrt='weights'. "
                f"Received: wrt={self.wrt!r}, inputs of dtype {', '.join(fixed)}"
            )

    def _make_data_loss(self, loss, row):
        """Returns the loss as a function of data and outputs, without penalties if one is given."""
        import tensorflow as tf

        if loss is None and not getattr(self.model, "compiled", False):
            raise ValueError(
                f"`loss` must be given: {self.model.name!r} is not compiled with one. "
                "Received: loss=None"
            )
        self._loss = self.model.loss if loss is None else loss
        if self._loss is not None and self.data.y is None:
            raise ValueError(
                "`y` must be given: the loss compares outputs with targets. Received: y=None"
            )
        if isinstance(loss, keras.losses.Loss):
            return lambda x, data, outputs: loss(data.y, outputs, data.sample_weight)
        if loss is None:
            return self._loss_of_model(self.model)
        if not tf.executing_eagerly():
            raise ValueError(
                "Inside a `tf.function`, `loss` must be a `keras.losses.Loss`, or None for the "
                f"loss that the model was compiled with. Received: loss={loss!r}"
            )
        owner = keras.Model(name=self.model.name)
        owner.output_names = getattr(self.model, "output_names", None)
        owner.compile(optimizer=None, loss=loss)
        data_loss = self._loss_of_model(owner)
        with keras.StatelessScope():  # A random layer keeps its state.
            outputs = self.model(row.x)
        # Keras makes losses of names and functions at the first call, to compute in `floatx`.
        with _floatx(self.dtype):
            data_loss(row.x, row, outputs)
        return data_loss

    def project(self, vectors: Sequence[Any]) -> None:
        """Makes the inner product of the outputs and some vectors the loss, besides penalties.

        Args:
            vectors: List of tensors like the outputs.
        """
        self._has_penalties = False
        self._data_loss = lambda x, data, outputs: inner_product(
            [ops.cast(output, self.dtype) for output in keras.tree.flatten(outputs)], vectors
        )

    def _loss_of_model(self, model):
        keywords = {}
        if "training" in inspect.signature(model.compute_loss).parameters:
            keywords["training"] = self.training
        return lambda x, data, outputs: model.compute_loss(
            x=x, y=data.y, y_pred=outputs, sample_weight=data.sample_weight, **keywords
        )

    @property
    def values(self) -> list[Any]:
        """The tensors to differentiate with respect to: weights, then inputs."""
        return self.values_of(self.data)

    def values_of(self, data: Data) -> list[Any]:
        """Returns `values` for some rows of the data."""
        weights = [] if self.wrt == "inputs" else map(ops.copy, self.variables)
        inputs = [] if self.wrt == "weights" else keras.tree.flatten(data.x)
        return [*weights, *inputs]

    @property
    def names(self) -> list[str]:
        """What the values are called in messages: the paths of variables, and the inputs."""
        weights = [] if self.wrt == "inputs" else [variable.path for variable in self.variables]
        count = 0 if self.wrt == "weights" else len(keras.tree.flatten(self.data.x))
        return [*weights, *(["inputs"] if count == 1 else [f"inputs[{n}]" for n in range(count)])]

    def pack(self, values: Sequence[Any]) -> Any:
        """Returns a list aligned with `values` in the form of public results."""
        if self.wrt == "weights":
            return list(values)
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

    def _scope(self, values):
        # Keras finds the regularized weights of a scope only where they are given.
        weights = map(ops.copy, self.variables) if self.wrt == "inputs" else values
        return keras.StatelessScope(list(zip(self.variables, weights)), collect_losses=True)

    def _x(self, values, data):
        count = 0 if self.wrt == "inputs" else len(self.variables)
        if self.wrt == "weights":
            return data.x
        return keras.tree.pack_sequence_as(data.x, list(values[count:]))

    def outputs(self, values: Sequence[Any], data: Data) -> list[Any]:
        """Returns the outputs as a flat list; distributions as their tensors."""
        with self._scope(values):
            outputs = self.model(self._x(values, data), training=self.training)
        return [ops.convert_to_tensor(output) for output in keras.tree.flatten(outputs)]

    def pack_outputs(self, parts: Sequence[Any]) -> Any:
        """Returns what belongs to the outputs, a flat list, in the structure of the outputs."""
        with self._scope(self.values):
            structure = self.model(self.rows_of(self.data, slice(0, 1)).x, training=False)
        parts = iter(parts)
        return keras.tree.map_structure(lambda _: next(parts), structure)

    def loss(self, values: Sequence[Any], data: Data) -> Any:
        """Returns the loss with all penalties, a scalar."""
        return self.loss_of_outputs(values, data, lambda outputs: outputs)

    def loss_of_outputs(self, values: Sequence[Any], data: Data, change: Any) -> Any:
        """Returns the loss of what `change` makes of the outputs, and all penalties.

        Args:
            values: List of tensors.
            data: `Data`.
            change: Function from the structure of outputs, as they leave the model, to another.
        """
        with self._scope(values):
            x = self._x(values, data)
            outputs = change(self.model(x, training=self.training))
            return self._compute_loss(x, outputs, data)

    def loss_given_outputs(self, values: Sequence[Any], data: Data, outputs: Any) -> Any:
        """Returns the loss of outputs that were computed before, with penalties on weights."""
        with self._scope(values):
            return self._compute_loss(self._x(values, data), outputs, data)

    def _compute_loss(self, x, outputs, data):
        losses = [self._data_loss(x, data, outputs)]
        if not self._has_penalties:
            losses += self.model.losses
        return sum(ops.cast(ops.sum(loss), losses[0].dtype) for loss in losses)

    def batches(self, batch_size: int | None) -> Iterator[tuple[float, slice, Data]]:
        """Yields parts of the data: their share in the mean over all rows, the rows, the data.

        Args:
            batch_size: Integer; `None` for all rows at once.
        """
        if batch_size is None:
            yield 1.0, slice(None), self.data
            return
        batch_size = check_integer("batch_size", batch_size)
        self._check_mean_over_rows(batch_size)
        for first in range(0, self.num_rows, batch_size):
            rows = slice(first, min(first + batch_size, self.num_rows))
            yield (rows.stop - rows.start) / self.num_rows, rows, self.rows_of(self.data, rows)

    def _check_mean_over_rows(self, batch_size):
        for loss in keras.tree.flatten(self._loss):
            is_mean = getattr(loss, "reduction", "mean") in ("sum_over_batch_size", "mean")
            if isinstance(loss, BatchLoss) or not is_mean:
                raise ValueError(
                    "`batch_size` needs a loss that is a mean over rows; of others the batches do "
                    "not add up to the whole. Give batch_size=None. "
                    f"Received: batch_size={batch_size}, loss={loss!r}"
                )

    @staticmethod
    def rows_of(data: Data, rows: slice) -> Data:
        """Returns some rows of the data."""
        return keras.tree.map_structure(lambda part: None if part is None else part[rows], data)

    def state_changes(self) -> tuple[list[Any], list[Any]]:
        """Returns the variables that a call assigns: states of seed generators, and all others."""
        with self._scope(self.values) as scope:
            self.model(self.data.x, training=self.training)
        changed = [v for v in self.model.non_trainable_variables if _is_assigned(scope, v)]
        seeds = [v for v in changed if v.name == "seed_generator_state"]
        return seeds, [v for v in changed if v.name != "seed_generator_state"]


def as_vector(part: Any, value: Any, name: str) -> Any:
    """Returns a tensor of the dtype of `value`, or says that its shape is another.

    Args:
        part: Array.
        value: Tensor.
        name: String, what it belongs to.
    """
    part = ops.convert_to_tensor(part, value.dtype)
    if not value.shape.is_compatible_with(part.shape):
        raise ValueError(
            f"`vector` must have shape {tuple(value.shape)} for {name}. "
            f"Received: shape {tuple(part.shape)}"
        )
    return part


def _is_assigned(scope, variable):
    return scope.get_current_value(variable) is not None


def _leaves(structure):
    return [leaf for leaf in keras.tree.flatten(structure) if leaf is not None]


@contextlib.contextmanager
def _floatx(dtype):
    outer = keras.config.floatx()
    keras.config.set_floatx(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(outer)
