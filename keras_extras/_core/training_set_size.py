"""How large the training set is, learned in `fit` by those who scale by it.

Layers and optimizers that weigh a prior against the data need the number of training rows. Before
training `fit` gives it to every variable of the model and of its optimizer that is marked for it.
Of models and optimizers that do not ask, nothing is read of the data.
"""

import contextlib
import contextvars
import functools
import math
import types
from collections.abc import Callable
from typing import Any

import keras

from keras_extras._core.batches_per_epoch import batches_per_epoch
from keras_extras._core.first_batch import FirstBatch
from keras_extras._core.optimizers import optimizer_of
from keras_extras._core.stateless import own_values
from keras_extras._core.unscaled_divergence import warn_of_unscaled_divergence
from keras_extras._seams.fit_arguments import surround_fit
from keras_extras._seams.layers_within import layers_within
from keras_extras._seams.repeated_dataset import rows_of_one_pass

NAME = "training_set_size"

_UNKNOWN = 0.0


def _unknown() -> float:
    return _UNKNOWN


_current: contextvars.ContextVar = contextvars.ContextVar(NAME, default=_unknown)


def learn_training_set_size() -> None:
    """Lets every later `fit` give its size to those who ask."""
    surround_fit(__name__, _around_fit)


def current_training_set_size() -> float:
    """Returns the size in the `fit` that is running; 0 if it is unknown or none is running."""
    with _outside_of_graphs():
        return _current.get()()


def sized(variable: keras.Variable) -> keras.Variable:
    """Marks a variable, which `fit` assigns the size to, and returns it."""
    variable.is_training_set_size = True
    return variable


def require_known_size(variable: keras.Variable, owner: str) -> None:
    """Raises if a variable named `training_set_size` has no value yet.

    Args:
        variable: The variable.
        owner: Whose it is, the start of the error's sentence.

    Raises:
        ValueError: If its value is 0.
    """
    # A variable that this very graph makes is still empty; it starts with the current size.
    if not (current_training_set_size() or _own_size(variable)):
        raise ValueError(
            f"{owner} scales by the size of the training set, which is unknown. It is learned in "
            "`fit` from arrays, from datasets of known length, and from `steps_per_epoch` with "
            "generators and endless datasets. Give `steps_per_epoch`, or the number itself in "
            "place of 'auto'; in a training loop of your own assign it to the variable "
            f"`{NAME}`."
        )


def _own_size(variable):
    """The value that a variable holds; on JAX `fit` holds the values of all variables itself."""
    if keras.backend.backend() != "tensorflow" and _current.get() is not _unknown:
        return _UNKNOWN
    with _outside_of_graphs():
        return keras.ops.convert_to_numpy(variable.value).max(initial=_UNKNOWN)


def _outside_of_graphs():
    """Out of the graph of TensorFlow or the scope of JAX that may be being traced."""
    if keras.backend.backend() != "tensorflow":
        return own_values()
    import tensorflow as tf

    return tf.init_scope()


@contextlib.contextmanager
def _around_fit(model, arguments):
    warn_of_unscaled_divergence(model)
    optimizer = optimizer_of(model)
    variables = [*model.variables, *getattr(optimizer, "variables", ())]
    variables = [v for v in variables if getattr(v, "is_training_set_size", False)]
    check_batches = getattr(optimizer, "check_batches", None)
    if not (variables or check_batches or _asks(model, optimizer)):
        given = dict(arguments)
        with _known(lambda: _size(given)):
            yield
        return
    first = FirstBatch(arguments["x"])
    size = _size(arguments, first.rows)
    if check_batches is not None:
        names = ("batch_size", "steps_per_epoch")
        check_batches(batches_per_epoch(arguments["x"], size, *map(arguments.get, names)))
    arguments["x"] = first.source
    for variable in variables:
        variable.assign(size)
    with _known(lambda: size):
        yield


@contextlib.contextmanager
def _known(size):
    """Within it, layers that are built on the way find a size."""
    token = _current.set(functools.cache(size))
    try:
        yield
    finally:
        _current.reset(token)


def _asks(model, optimizer):
    """Whether a layer or optimizer that may not be built yet asks for the size."""
    askers = [*layers_within(model), optimizer, *getattr(optimizer, "optimizers", ())]
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
