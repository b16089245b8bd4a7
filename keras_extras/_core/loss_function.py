"""The loss of a model as a function of its outputs, however it is given."""

import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_extras._core.backend import is_traced
from keras_extras._core.model_function import evaluate
from keras_extras._seams.wrapped_methods import owner_of


def loss_function(
    model: keras.Model, loss: Any, x: Any, y: Any, sample_weight: Any, dtype: str, training: bool
) -> Callable[[Any, Any, Any, Any], Any]:
    """Returns a function from inputs, targets, outputs and sample weights to the loss.

    The loss that the model was compiled with comes with the model's penalties, another does not.

    Args:
        model: Keras model or layer.
        loss: As in `model.compile`; `None` for the loss that the model was compiled with.
        x: One row of the inputs.
        y: One row of the targets, or `None`.
        sample_weight: Likewise.
        dtype: The dtype to compute in, where the loss leaves it open.
        training: Boolean, as losses of models may ask for it.

    Raises:
        ValueError: If there is no loss, the loss needs targets, or it cannot be made here.
    """
    if loss is None and not getattr(model, "compiled", False):
        raise ValueError(
            f"`loss` must be given: {model.name!r} is not compiled with one. Received: loss=None"
        )
    if (model.loss if loss is None else loss) is not None and y is None:
        raise ValueError(
            "`y` must be given: the loss compares outputs with targets. Received: y=None"
        )
    if isinstance(loss, keras.losses.Loss):
        return lambda x, y, outputs, sample_weight: loss(y, outputs, sample_weight)
    if loss is None:
        return _loss_of_model(model, training)
    if any(is_traced(leaf) for leaf in keras.tree.flatten(x) if leaf is not None):
        raise ValueError(
            "Inside a compiled function, `loss` must be a `keras.losses.Loss`, or None for the "
            f"loss that the model was compiled with. Received: loss={loss!r}"
        )
    owner = keras.Model(name=model.name)
    owner.output_names = getattr(model, "output_names", None)
    if dtype != keras.config.floatx():
        loss = keras.tree.map_structure(
            lambda part: None if part is None else loss_in_dtype(part, dtype), loss
        )
    owner.compile(optimizer=None, loss=loss)
    function = _loss_of_model(owner, training)
    outputs = evaluate(model, x, penalties=False).outputs
    function(x, y, outputs, sample_weight)  # Keras makes losses at the first call.
    return function


def _loss_of_model(model, training):
    keywords = {}
    if "training" in inspect.signature(model.compute_loss).parameters:
        keywords["training"] = training
    return lambda x, y, outputs, sample_weight: model.compute_loss(
        x=x, y=y, y_pred=outputs, sample_weight=sample_weight, **keywords
    )


def loss_in_dtype(loss: Any, dtype: str) -> keras.losses.Loss:
    """Returns a Keras loss that computes in a dtype; `keras.config.floatx()` is of all threads.

    Args:
        loss: A Keras loss, which is returned as it is, its name or configuration, or a function
            `(y_true, y_pred)`.
        dtype: String.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(loss, keras.losses.Loss):
        return loss
    if str(loss).lower() in ("crossentropy", "ce"):
        raise ValueError(
            "`loss` must name one kind of crossentropy here, such as 'categorical_crossentropy'. "
            f"Received: loss={loss!r} and a model in {dtype}"
        )
    found = keras.losses.get(loss)
    if isinstance(found, keras.losses.Loss):
        return type(found).from_config({**found.get_config(), "dtype": dtype})
    if not callable(found):
        raise ValueError(
            "`loss` must be a Keras loss, its name, or a function of `y_true` and `y_pred`. "
            f"Received: loss={loss!r}"
        )
    # The class of losses of functions is not public, its subclasses are.
    wrapper = owner_of(keras.losses.MeanSquaredError, "call")
    return wrapper(found, name=getattr(found, "__name__", None), dtype=dtype)
