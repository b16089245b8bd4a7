"""WeightedLosses: the loss of a model whose outputs have weights that are learned."""

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
    """

    def __init__(self, loss: Any, model: keras.Model):
        self.given = loss
        self.names = list(getattr(model, "output_names", None) or ())
        if isinstance(loss, dict) and set(loss) != set(self.names):
            self.names = list(loss)
        elif not self.names:
            count = len(loss) if isinstance(loss, list | tuple) else 1
            self.names = [f"output_{number}" for number in range(count)]
        self._dtype = model.trainable_variables[0].dtype
        given = self._by_name("loss", loss)
        self._losses = {name: loss_in_dtype(given[name], self._dtype) for name in self.names}

    def __call__(self, y: Any, outputs: Any, weights: Any = None, sample_weight: Any = None) -> Any:
        """Returns the weighted sum of the losses, a scalar.

        Args:
            y: Targets, structured as the outputs.
            outputs: What the model returns.
            weights: Dict from names of outputs to factors. Defaults to `None`.
            sample_weight: Tensor of a factor for each row. Defaults to `None`.
        """
        y, outputs = self._by_name("y", y), self._by_name("outputs", outputs)
        total = ops.zeros((), self._dtype)
        for name, loss in self._losses.items():
            value = loss(y[name], outputs[name], sample_weight=sample_weight)
            total += ops.cast(value, self._dtype) * (weights or {}).get(name, 1.0)
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
