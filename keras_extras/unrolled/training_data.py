"""TrainingData: what an unrolled training is given, as tensors that fit its model."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_extras._core.data import paired_targets
from keras_extras.unrolled.batches import Batches, batches_of, validation_tensors
from keras_extras.unrolled.hyperparameters import Hyperparameter
from keras_extras.unrolled.weighted_losses import WeightedLosses


class TrainingData:
    """Checks training and validation data, and brings them into the form that steps take.

    Args:
        model: Keras model.
        losses: `WeightedLosses` of the model.
        hyperparameters: List of `Hyperparameter`.
        steps: Integer, the number of steps.
        batch_size: Integer, or `None` for all rows in each step.
        seed: Integer, of the order of rows.
    """

    def __init__(
        self,
        model: keras.Model,
        losses: WeightedLosses,
        hyperparameters: Sequence[Hyperparameter],
        steps: int,
        batch_size: int | None,
        seed: int,
    ):
        self._model, self._losses = model, losses
        self._hyperparameters = hyperparameters
        self._order = (steps, batch_size, seed)

    def training(self, x: Any, y: Any, values: Mapping[str, np.ndarray]) -> Batches:
        """Returns the batches of a training.

        Args:
            x: Inputs, or `None` where they are a hyperparameter.
            y: Targets, likewise.
            values: Dict of the hyperparameters.

        Raises:
            ValueError: If the data do not fit the model or the hyperparameters.
        """
        x, y = self._learned("x", x, values), self._learned("y", y, values)
        data = batches_of(x, y, *self._order, self._model)
        paired = self._paired(data.x, data.y)
        shapes = [tuple(t.shape) for t in keras.tree.flatten(paired)]
        if "y" in values and shapes != [values["y"].shape]:
            raise ValueError(
                "The hyperparameter 'y' must have the shape of the one output. Received: shape "
                f"{values['y'].shape} for targets of shapes {shapes}"
            )
        data = data._replace(y=paired)
        for h in self._hyperparameters:
            if h.varies_over == "rows" and len(h.start) != data.rows:
                raise ValueError(
                    f"The hyperparameter {h.name!r} must have one value for each row of `x`. "
                    f"Received: {len(h.start)} values for {data.rows} rows"
                )
        return data

    def validation(self, validation_data: Any) -> tuple:
        """Returns the tensors of `(x, y)` or `(x, y, sample_weight)`."""
        x, y, *weights = validation_tensors(validation_data, self._model)
        return x, self._paired(x, y, *weights), *weights

    def _paired(self, x, y, sample_weight=None):
        outputs = self._model(keras.tree.map_structure(lambda t: t[:1], x))
        return paired_targets(y, outputs, self._losses.given, self._losses.names, sample_weight)

    def _learned(self, name, given, values):
        """The training data of a name: those given, or the hyperparameter."""
        if name not in values:
            if given is None:
                raise ValueError(
                    f"`{name}` must be given, unless it is a hyperparameter. Received: {name}=None"
                )
            return given
        if given is not None:
            raise ValueError(
                f"`{name}` must be None where it is a hyperparameter, whose value is trained on. "
                f"Received: {name} of type {type(given).__name__}"
            )
        return values[name].astype(self._model.trainable_variables[0].dtype)
