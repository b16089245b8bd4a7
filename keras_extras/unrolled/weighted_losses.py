"""WeightedLosses: the loss of a model whose outputs have weights that are learned."""

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

from keras_extras._core.loss_function import loss_in_dtype


class WeightedLosses:
    """Losses of the outputs of a model, summed with weights.

    Args:
        loss: A Keras loss, its name, or a function `(y_true, y_pred)`; for several outputs a list
            or dict of them.
        model: The Keras model.
        validation_loss: Likewise, of validation data; `None` for `loss`.
    """

    def __init__(self, loss: Any, model: keras.Model, validation_loss: Any = None):
        self.given, self._validation_loss = loss, validation_loss
        self.names = list(getattr(model, "output_names", None) or ())
        if isinstance(loss, dict) and set(loss) != set(self.names):
            self.names = list(loss)
        elif not self.names:
            count = len(loss) if isinstance(loss, list | tuple) else 1
            self.names = [f"output_{number}" for number in range(count)]
        self._dtype = model.trainable_variables[0].dtype
        self._losses = self._in_dtype("loss", loss)
        self._of_validation = self._losses
        if validation_loss is not None:
            self._of_validation = self._in_dtype("validation_loss", validation_loss)
        self._learned: dict[str, list[str]] = {}

    def learn(self, arguments: Sequence[str]) -> None:
        """Makes arguments of losses that are functions hyperparameters.

        Args:
            arguments: Names of the arguments.

        Raises:
            ValueError: If no loss has an argument, or there is no loss of validation data.
        """
        given = self._by_name("loss", self.given)
        for name, loss in given.items():
            known = _arguments_of(loss)
            self._learned[name] = [argument for argument in arguments if argument in known]
        unknown = set(arguments) - {a for found in self._learned.values() for a in found}
        if unknown:
            raise ValueError(
                '"loss/<argument>" must name an argument of a `loss` that is a function '
                f"`(y_true, y_pred, <argument>)`. Received: {sorted(unknown)} for loss={self.given}"
            )
        if arguments and self._validation_loss is None:
            raise ValueError(
                "`validation_loss` must be given where arguments of `loss` are learned; those that "
                "make `loss` itself small are not the best. Received: validation_loss=None and "
                f"the arguments {list(arguments)}"
            )

    def __call__(
        self,
        y: Any,
        outputs: Any,
        weights: Any = None,
        sample_weight: Any = None,
        arguments: Any = None,
    ) -> Any:
        """Returns the weighted sum of the losses, a scalar.

        Args:
            y: Targets, structured as the outputs.
            outputs: What the model returns.
            weights: Dict from names of outputs to factors. Defaults to `None`.
            sample_weight: Tensor of a factor for each row. Defaults to `None`.
            arguments: Dict of the arguments of losses that are learned. Defaults to `None`.
        """
        losses = dict(self._losses)
        given = self._by_name("loss", self.given) if arguments else {}
        for name in given:
            learned = {argument: arguments[argument] for argument in self._learned[name]}
            if learned:
                losses[name] = loss_in_dtype(partial(given[name], **learned), self._dtype)
        return self._sum(losses, y, outputs, sample_weight, weights or {})

    def validation(self, y: Any, outputs: Any, sample_weight: Any = None) -> Any:
        """Returns the sum of the losses of validation data, a scalar."""
        return self._sum(self._of_validation, y, outputs, sample_weight, {})

    def _in_dtype(self, argument, losses):
        given = self._by_name(argument, losses)
        return {name: loss_in_dtype(given[name], self._dtype) for name in self.names}

    def _sum(self, losses, y, outputs, sample_weight, weights):
        y, outputs = self._by_name("y", y), self._by_name("outputs", outputs)
        total = ops.zeros((), self._dtype)
        for name, loss in losses.items():
            value = loss(y[name], outputs[name], sample_weight=sample_weight)
            total += ops.cast(value, self._dtype) * weights.get(name, 1.0)
        return total

    def _by_name(self, argument, values):
        """A dict from the names of the outputs."""
        if isinstance(values, dict):
            found = values
        elif isinstance(values, list | tuple):
            found = dict(zip(self.names, values)) if len(values) == len(self.names) else {}
        else:
            found = dict.fromkeys(self.names, values) if len(self.names) == 1 else {}
        if set(found) != set(self.names):
            received = list(values) if isinstance(values, dict) else type(values).__name__
            raise ValueError(
                f"`{argument}` must have one entry for each output of the model, "
                f"{', '.join(map(repr, self.names))}. Received: {argument}={received}"
            )
        return found


def _arguments_of(loss):
    """The names of the arguments that a loss takes beside targets and outputs."""
    if isinstance(loss, keras.losses.Loss) or not callable(loss):
        return []
    return list(inspect.signature(loss).parameters)[2:]
