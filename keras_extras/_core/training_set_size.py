"""How large the training set is, learnt in `fit` by those who scale by it.

Layers and optimizers that weigh a prior against the data need the number of training rows, and
Keras has no public way to ask for it. So `fit` is wrapped once, when the first of them is made:
before training it gives the number to every variable of the model and of its optimizer that is
marked for it. Models and optimizers that do not ask train as they did: nothing of their data is
read. A test fails when Keras no longer calls `fit` in this way.
"""

import contextlib
import contextvars
import functools
import inspect
import math
import types
from collections.abc import Callable
from typing import Any

import keras

from keras_extras._core.batches_per_epoch import batches_per_epoch
from keras_extras._core.first_batch import FirstBatch
from keras_extras._core.optimizers import optimizer_of
from keras_extras._core.repeated_dataset import rows_of_one_pass
from keras_extras._core.unscaled_divergence import warn_of_unscaled_divergence
from keras_extras._core.wrapped_methods import wrap_once

NAME = "training_set_size"

_UNKNOWN = 0.0
_current: contextvars.ContextVar = contextvars.ContextVar(NAME, default=lambda: _UNKNOWN)


def install_training_set_size_seam() -> None:
    """Wraps `fit` where keras.Model has it from, once."""
    owner = next(cls for cls in keras.Model.__mro__ if "fit" in vars(cls))
    wrap_once(owner, "fit", _wrap)


def current_training_set_size() -> float:
    """Returns the size in the `fit` that is running; 0 if it is unknown or none is running."""
    with _outside_of_graphs():
        return _current.get()()


def sized(variable: keras.Variable) -> keras.Variable:
    """Marks a variable, which `fit` assigns the size to, and returns it."""
    variable.is_training_set_size = True
    return variable


def require_known_size(variable: keras.Variable, owner: str) -> None:
    """Raises if a variable named `training_set_size` has not been told its value.

    Args:
        variable: The variable.
        owner: Whose it is, the start of the error's sentence.

    Raises:
        ValueError: If its value is 0.
    """
    with _outside_of_graphs():
        value = keras.ops.convert_to_numpy(variable.value)
    # A variable that this very graph makes is still empty; it starts with the current size.
    if not (current_training_set_size() or value.any()):
        raise ValueError(
            f"{owner} scales by the size of the training set, which is unknown. It is learnt in "
            "`fit` from arrays, from datasets of known length, and from `steps_per_epoch` with "
            "generators and endless datasets. Give `steps_per_epoch`, or the number itself in "
            "place of 'auto'; in a training loop of your own assign it to the variable "
            f"`{NAME}`."
        )


def _outside_of_graphs():
    """Out of the graph that may be being traced, which TensorFlow alone has."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.init_scope()


def _wrap(stock):
    signature = inspect.signature(stock)
    if "x" not in signature.parameters:  # Another library's wrapper of any arguments.
        signature = inspect.signature(_documented_fit)

    def fit(self, *args, **kwargs):
        try:
            call = signature.bind(self, *args, **kwargs)
        except TypeError:
            return stock(self, *args, **kwargs)  # raises what the user should see
        call.apply_defaults()
        arguments = call.arguments
        warn_of_unscaled_divergence(self)
        optimizer = optimizer_of(self)
        variables = [*self.variables, *getattr(optimizer, "variables", ())]
        variables = [v for v in variables if getattr(v, "is_training_set_size", False)]
        check_batches = getattr(optimizer, "check_batches", None)
        if not (variables or check_batches or _asks(self, optimizer)):
            return _training(lambda: _size(arguments), stock, self, *args, **kwargs)
        first = FirstBatch(arguments["x"])
        size = _size(arguments, first.rows)
        if check_batches is not None:
            names = ("batch_size", "steps_per_epoch")
            check_batches(batches_per_epoch(arguments["x"], size, *map(arguments.get, names)))
        arguments["x"] = first.source
        for variable in variables:
            variable.assign(size)
        return _training(lambda: size, stock, *call.args, **call.kwargs)

    return fit


def _training(size, fit, *args, **kwargs):
    """Calls `fit` with a size for layers that are built on the way."""
    token = _current.set(functools.cache(size))
    try:
        return fit(*args, **kwargs)
    finally:
        _current.reset(token)


def _asks(model, optimizer):
    """Whether a layer or optimizer that may not be built yet asks for the size."""
    askers = [*model._flatten_layers(), optimizer, *getattr(optimizer, "optimizers", ())]
    return any(getattr(asker, "asks_for_training_set_size", False) for asker in askers)


def _size(arguments, rows=None):
    """The size of the training set of a call of `fit`.

    Layers that are made on the way ask while training runs: then no generator can be read.
    """
    x, steps = arguments["x"], arguments["steps_per_epoch"]
    if isinstance(x, types.GeneratorType):
        return _UNKNOWN if rows is None else _of_batches(steps, rows)
    split = 0.0 if arguments["validation_data"] is not None else arguments["validation_split"]
    return training_set_size(x, split, steps, rows)


def _documented_fit(
    self,
    x=None,
    y=None,
    batch_size=None,
    epochs=1,
    verbose="auto",
    callbacks=None,
    validation_split=0.0,
    validation_data=None,
    shuffle=True,
    class_weight=None,
    sample_weight=None,
    initial_epoch=0,
    steps_per_epoch=None,
    **others,
):
    """Has the arguments of `keras.Model.fit`."""


def training_set_size(
    x: Any,
    validation_split: float,
    steps_per_epoch: int | None,
    rows: Callable[[], int] | None = None,
) -> float:
    """Returns the number of rows that `fit` trains on with these arguments, 0 if unknown.

    Of arrays the number is exact. Of datasets it is the number of batches times the rows of the
    first, so that a smaller last batch counts as a whole one; rows that `repeat` brings several
    times count once.

    Args:
        x: As of `fit`.
        validation_split: As of `fit`.
        steps_per_epoch: As of `fit`.
        rows: Function that returns the number of rows of the first batch. Defaults to `None`: it
            is read from `x`.
    """
    rows = FirstBatch(x).rows if rows is None else rows
    if hasattr(x, "cardinality"):  # tf.data.Dataset
        length = int(x.cardinality())
        if length == 0:
            return _UNKNOWN
        # Fewer steps in an epoch go on through the data in the next.
        one_pass = rows_of_one_pass(x, rows)
        total = _of_batches(steps_per_epoch if length < 0 else length, rows)
        if one_pass is None:
            return total
        # A `take` may end within the first pass.
        return one_pass if length < 0 else min(total, one_pass)
    if isinstance(x, keras.utils.PyDataset):
        return _of_batches(x.num_batches or steps_per_epoch, rows)
    if hasattr(x, "dataset") and hasattr(x.dataset, "__len__"):  # torch's DataLoader
        return float(len(x.dataset))
    leaves = [leaf for leaf in keras.tree.flatten(x) if hasattr(leaf, "shape")]
    if not leaves or not leaves[0].shape:
        return _UNKNOWN
    return float(math.floor(leaves[0].shape[0] * (1.0 - (validation_split or 0.0))))


def _of_batches(steps, rows):
    return _UNKNOWN if steps is None or steps == math.inf else float(steps * rows())
