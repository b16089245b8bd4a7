"""How large the training set is, learnt in `fit` by those who scale by it.

Layers and optimizers that weigh a prior against the data need the number of training rows, and
Keras has no public way to ask for it. So `fit` is wrapped once, when the first of them is made:
before training it gives the number to every variable named `training_set_size` of the model and
of its optimizer. A test fails when Keras no longer calls `fit` in this way.
"""

import contextlib
import contextvars
import inspect
import itertools
import math
import types
from typing import Any

import keras

from keras_extras._core.batches_per_epoch import batches_per_epoch
from keras_extras._core.repeated_dataset import rows_of_one_pass
from keras_extras._core.wrapped_methods import wrap_once

NAME = "training_set_size"

_UNKNOWN = 0.0
_current: contextvars.ContextVar = contextvars.ContextVar(NAME, default=_UNKNOWN)


def install_training_set_size_seam() -> None:
    """Wraps `fit` where keras.Model has it from, once."""
    owner = next(cls for cls in keras.Model.__mro__ if "fit" in vars(cls))
    wrap_once(owner, "fit", _wrap)


def current_training_set_size() -> float:
    """Returns the size in the `fit` that is running; 0 if it is unknown or none is running."""
    return _current.get()


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
        optimizer = getattr(self, "optimizer", None)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        variables = [*self.variables, *getattr(optimizer, "variables", ())]
        variables = [variable for variable in variables if variable.name == NAME]
        check_batches = getattr(optimizer, "check_batches", None)
        is_known = self.built and getattr(optimizer, "built", True)
        if not variables and is_known and check_batches is None:
            return stock(self, *args, **kwargs)
        call.apply_defaults()
        arguments = call.arguments
        if isinstance(arguments["x"], types.GeneratorType):
            arguments["x"], rows = _peek(arguments["x"])
            size = _of_batches(arguments["steps_per_epoch"], rows)
        else:
            has_validation_data = arguments["validation_data"] is not None
            split = 0.0 if has_validation_data else arguments["validation_split"]
            size = training_set_size(arguments["x"], split, arguments["steps_per_epoch"])
        if check_batches is not None:
            names = ("batch_size", "steps_per_epoch")
            check_batches(batches_per_epoch(arguments["x"], size, *map(arguments.get, names)))
        for variable in variables:
            variable.assign(size)
        token = _current.set(size)
        try:
            return stock(*call.args, **call.kwargs)
        finally:
            _current.reset(token)

    return fit


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


def training_set_size(x: Any, validation_split: float, steps_per_epoch: int | None) -> float:
    """Returns the number of rows that `fit` trains on with these arguments, 0 if unknown.

    Of arrays the number is exact. Of datasets it is the number of batches times the rows of the
    first, so that a smaller last batch counts as a whole one; rows that `repeat` brings several
    times count once.
    """
    if hasattr(x, "cardinality"):  # tf.data.Dataset
        length = int(x.cardinality())
        if length == 0:
            return _UNKNOWN
        # Fewer steps in an epoch go on through the data in the next.
        steps = steps_per_epoch if length < 0 else length
        total = _of_batches(steps, lambda: _rows(next(iter(x.take(1)))))
        one_pass = rows_of_one_pass(x)
        if one_pass is None:
            return total
        # A `take` may end within the first pass.
        return one_pass if length < 0 else min(total, one_pass)
    if isinstance(x, keras.utils.PyDataset):
        steps = x.num_batches or steps_per_epoch
        return _of_batches(steps, lambda: _rows(x[0]))
    if hasattr(x, "dataset") and hasattr(x.dataset, "__len__"):  # torch's DataLoader
        return float(len(x.dataset))
    leaves = [leaf for leaf in keras.tree.flatten(x) if hasattr(leaf, "shape")]
    if not leaves or not leaves[0].shape:
        return _UNKNOWN
    return float(math.floor(leaves[0].shape[0] * (1.0 - (validation_split or 0.0))))


def _peek(generator):
    """The rows of the first batch of a generator, and a generator that still yields it."""
    try:
        first = next(generator)
    except StopIteration:
        return generator, lambda: 0
    restored = (batch for batch in itertools.chain([first], generator))
    return restored, lambda: _rows(first)


def _of_batches(steps, rows):
    return _UNKNOWN if steps is None or steps == math.inf else float(steps * rows())


def _rows(batch):
    return keras.tree.flatten(batch)[0].shape[0]
