"""Predictors of any kind as functions of inputs."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_extras._core.fingerprint import fingerprint
from keras_extras.inference.fixed_predictions import check_not_random
from keras_extras.inference.predict_distribution import predict_distribution

Predict = Callable[[Any, bool], Any]


def prediction_function(
    predictor: Any, x: Any, num_samples: int, batch_size: int, seed: int
) -> Predict:
    """Returns a function of inputs, and whether classes are wanted, to an array or distribution.

    Args:
        predictor: As of `ConformalPredictor`.
        x: Inputs, of which one row is predicted.
        num_samples: Integer, draws of the weights of a model of distributions.
        batch_size: Integer, rows to predict at once.
        seed: Integer seed of these draws.

    Raises:
        TypeError: If `predictor` has another type.
        ValueError: If two predictions of one row differ, or `x` has no rows.
    """
    options: dict[str, Any] = {"num_samples": num_samples, "batch_size": batch_size, "seed": seed}
    if hasattr(predictor, "predict_distribution"):
        of_predictor = predictor.predict_distribution
        taken = inspect.signature(of_predictor).parameters
        kept = {name: value for name, value in options.items() if name in taken}
        return lambda rows, of_classes: of_predictor(rows, **kept)
    row = keras.tree.map_structure(lambda values: values[:1], x)
    is_ensemble = isinstance(predictor, list | tuple)
    is_model = isinstance(predictor, keras.Model)
    if is_ensemble or (is_model and hasattr(predictor(row, training=False), "log_prob")):
        return lambda rows, of_classes: predict_distribution(predictor, rows, **options)
    if is_model:
        check_not_random(lambda rows: predictor.predict(rows, verbose=0), x)
        return lambda rows, of_classes: predictor.predict(rows, batch_size=batch_size, verbose=0)
    if hasattr(predictor, "predict"):
        return lambda rows, of_classes: _of_estimator(predictor, of_classes)(rows)
    if not callable(predictor):
        raise TypeError(
            "`predictor` must be a Keras model, a list of models, an object with a method "
            "`predict_distribution`, an estimator of scikit-learn, or a function of inputs. "
            f"Received: predictor={predictor!r}"
        )
    check_not_random(lambda rows: _as_array(predictor(rows)), x)
    return lambda rows, of_classes: predictor(rows)


def _of_estimator(predictor, of_classes):
    if of_classes and not hasattr(predictor, "predict_proba"):
        raise TypeError(
            "Sets of classes need an estimator with `predict_proba`. "
            f"Received: predictor={predictor!r}"
        )
    return predictor.predict_proba if of_classes else predictor.predict


def _as_array(prediction):
    values = prediction.mean() if hasattr(prediction, "log_prob") else prediction
    return np.asarray(keras.ops.convert_to_numpy(values))


def weights_of(predictor: Any) -> Callable[[], str]:
    """Returns a function that returns a hash of the present weights of Keras models."""
    predictors = predictor if isinstance(predictor, list | tuple) else [predictor]
    models = [model for model in predictors if isinstance(model, keras.Model)]
    return lambda: fingerprint([model.get_weights() for model in models])
