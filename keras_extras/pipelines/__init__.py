"""Several trainings as one model, and estimators for scikit-learn."""

import importlib

from keras_extras.pipelines.autoencoder_classifier import AutoencoderClassifier
from keras_extras.pipelines.cross_conformal_predictor import CrossConformalPredictor
from keras_extras.pipelines.two_stage_trainer import StageHistories

# They subclass estimators of scikit-learn, which is imported when they are asked for.
_LATER = {
    "ProbabilisticClassifier": "keras_extras.pipelines.probabilistic_classifier",
    "ProbabilisticRegressor": "keras_extras.pipelines.probabilistic_regressor",
}

__all__ = [
    "AutoencoderClassifier",
    "CrossConformalPredictor",
    "ProbabilisticClassifier",
    "ProbabilisticRegressor",
    "StageHistories",
]


def __getattr__(name: str):
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
