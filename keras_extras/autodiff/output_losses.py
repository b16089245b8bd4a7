"""The loss of a model with one or several outputs, as a function of its weights."""

from typing import Any

import keras
from keras import ops


class OutputLosses:
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
        self._losses = {name: _loss_of(given[name], self._dtype) for name in self.names}

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


def _loss_of(loss, dtype):
    if not isinstance(loss, keras.losses.Loss):
        loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        return loss
    if not callable(loss):
        raise ValueError(
            "`loss` must be a Keras loss, its name, or a function of `y_true` and `y_pred`. "
            f"Received: loss={loss!r}"
        )
    return _MeanOf(loss, dtype)


class _MeanOf(keras.losses.Loss):
    """The mean of a function of targets and outputs over the rows."""

    def __init__(self, function, dtype):
        super().__init__(name="mean_of", dtype=dtype)
        self._function = function

    def call(self, y_true, y_pred):
        # As Keras does; (n,) against (n, 1) would be broadcast to (n, n) silently.
        if y_pred.shape[-1:] == (1,) and len(y_true.shape) == len(y_pred.shape) - 1:
            y_true = ops.expand_dims(y_true, -1)
        return self._function(y_true, y_pred)
