"""What hypermodels of perceptrons share: how networks begin, and how they are compiled."""

from typing import Any

import keras

from keras_extras import losses, metrics
from keras_extras.tuners.tasks import make_all


def first_layers(num_features: int, preprocessor: keras.layers.Layer | None) -> list[Any]:
    """Returns the inputs, and the preprocessor if there is one."""
    inputs = keras.Input((num_features,))
    return [inputs] if preprocessor is None else [inputs, preprocessor]


def compiled(model: keras.Model, optimizer: keras.optimizers.Optimizer, **arguments: Any) -> Any:
    """Returns the model, compiled as it is where keras-tuner loads weights saved in training."""
    model.compile(optimizer, **arguments)
    model.optimizer.build(model.trainable_variables)
    return model


def compiled_for_likelihood(model: keras.Model, learning_rate: float, more_metrics: Any) -> Any:
    """Returns a model of distributions, compiled for their likelihood."""
    return compiled(
        model,
        keras.optimizers.Adam(learning_rate),
        loss=losses.NegativeLogLikelihood(),
        metrics=[metrics.NegativeLogLikelihood(), *(make_all(more_metrics) or ())],
    )
