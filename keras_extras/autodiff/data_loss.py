"""The loss of a model as a function of its outputs."""

import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_extras.autodiff import backend
from keras_extras.autodiff.data import Data, leaves


def make_data_loss(
    model: keras.Model, loss: Any, row: Data, dtype: str, training: bool
) -> Callable[[Any, Data, Any], Any]:
    """Returns a function from inputs, data and outputs to the loss.

    The loss that the model was compiled with comes with the model's penalties, another does not.

    Args:
        model: Keras model or layer.
        loss: As in `model.compile`; `None` for the loss that the model was compiled with.
        row: One row of the data.
        dtype: The dtype to compute in, where the loss leaves it open.
        training: Boolean, as losses of models may ask for it.
    """
    if loss is None and not getattr(model, "compiled", False):
        raise ValueError(
            f"`loss` must be given: {model.name!r} is not compiled with one. Received: loss=None"
        )
    if (model.loss if loss is None else loss) is not None and row.y is None:
        raise ValueError(
            "`y` must be given: the loss compares outputs with targets. Received: y=None"
        )
    if isinstance(loss, keras.losses.Loss):
        return lambda x, data, outputs: loss(data.y, outputs, data.sample_weight)
    if loss is None:
        return _loss_of_model(model, training)
    if any(map(backend.is_traced, leaves(row.x))):
        raise ValueError(
            "Inside a compiled function, `loss` must be a `keras.losses.Loss`, or None for the "
            f"loss that the model was compiled with. Received: loss={loss!r}"
        )
    owner = keras.Model(name=model.name)
    owner.output_names = getattr(model, "output_names", None)
    if dtype != keras.config.floatx():
        loss = keras.tree.map_structure(lambda part: _in_dtype(part, dtype), loss)
    owner.compile(optimizer=None, loss=loss)
    data_loss = _loss_of_model(owner, training)
    with keras.StatelessScope():  # A random layer keeps its state.
        outputs = model(row.x)
    data_loss(row.x, row, outputs)  # Keras makes losses at the first call.
    return data_loss


def _loss_of_model(model, training):
    keywords = {}
    if "training" in inspect.signature(model.compute_loss).parameters:
        keywords["training"] = training
    return lambda x, data, outputs: model.compute_loss(
        x=x, y=data.y, y_pred=outputs, sample_weight=data.sample_weight, **keywords
    )


def _in_dtype(loss, dtype):
    """A loss whose objects compute in a dtype; `floatx` is that of all threads."""
    if loss is None or isinstance(loss, keras.losses.Loss):
        return loss
    if str(loss).lower() in ("crossentropy", "ce"):
        raise ValueError(
            f"`loss` must be the crossentropy that is meant, such as 'categorical_crossentropy', "
            f"where a model computes in another dtype than `keras.config.floatx()`. "
            f"Received: loss={loss!r} and a model in {dtype}"
        )
    found = keras.losses.get(loss)
    if isinstance(found, keras.losses.Loss):
        return type(found).from_config({**found.get_config(), "dtype": dtype})
    wrappers = keras.losses.MeanSquaredError.__mro__  # The class is not public, what it is for is.
    wrapper = next(cls for cls in wrappers if "call" in vars(cls))
    return wrapper(found, name=getattr(found, "__name__", None), dtype=dtype)
