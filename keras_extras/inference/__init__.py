"""Posterior distributions of a model's weights, and predictions from their draws."""

import importlib

from keras_extras.inference.conformal_prediction import ConformalPrediction
from keras_extras.inference.conformal_predictor import ConformalPredictor
from keras_extras.inference.laplace_approximation import LaplaceApproximation
from keras_extras.inference.make_variational import make_variational
from keras_extras.inference.posterior import Posterior
from keras_extras.inference.predict_distribution import predict_distribution
from keras_extras.inference.sample_posterior import sample_posterior
from keras_extras.inference.temperature_scale import temperature_scale

__all__ = [
    "ConformalPrediction",
    "ConformalPredictor",
    "LaplaceApproximation",
    "Posterior",
    "PosteriorPredictive",
    "make_variational",
    "predict_distribution",
    "sample_posterior",
    "temperature_scale",
]


def __getattr__(name: str):
    # It subclasses a class of TensorFlow Probability, which is imported when it is asked for.
    if name == "PosteriorPredictive":
        return importlib.import_module(f"{__name__}.posterior_predictive").PosteriorPredictive
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
