"""Perceptrons: the base of hypermodels of dense networks."""

from typing import Any

import keras

from keras_extras import losses
from keras_extras import metrics as our_metrics
from keras_extras._core.checks import check_integer
from keras_extras.tuners.tasks import make_all
from keras_extras.tuners.tunable import Tunable


class Perceptrons(Tunable):
    """Dense networks for rows of numbers.

    Args:
        num_features: Integer, the columns of the inputs.
        preprocessor: Keras layer before the network, or None.
        metrics: List of metrics, or None.
        *arguments: Of `Tunable`.
    """

    def __init__(self, num_features: int, preprocessor: Any, metrics: Any, *arguments: Any):
        super().__init__(*arguments)
        self.num_features = check_integer("num_features", num_features)
        self.preprocessor = preprocessor
        self.metrics = metrics

    def first_layers(self) -> list[Any]:
        """Returns the inputs, and the preprocessor if there is one."""
        inputs = keras.Input((self.num_features,))
        return [inputs] if self.preprocessor is None else [inputs, self.preprocessor]

    def compiled(self, model: keras.Model, **arguments: Any) -> keras.Model:
        """Compiles a model as it is where keras-tuner loads weights that it saved in training."""
        model.compile(**arguments)
        model.optimizer.build(model.trainable_variables)
        return model

    def compiled_for_likelihood(self, model: keras.Model, learning_rate: float) -> keras.Model:
        """Compiles a model whose output is a distribution."""
        return self.compiled(
            model,
            optimizer=keras.optimizers.Adam(learning_rate),
            loss=losses.NegativeLogLikelihood(),
            metrics=[our_metrics.NegativeLogLikelihood(), *(make_all(self.metrics) or ())],
        )
