"""Events of the ATLAS Higgs boson machine learning challenge: simulated, downloaded or local."""

from keras_extras.datasets.higgs.events import (
    BACKGROUND_WEIGHT_SUM,
    SIGNAL_WEIGHT_SUM,
    HiggsEvents,
    rescale_weights,
)
from keras_extras.datasets.higgs.features import (
    DERIVED_NAMES,
    FEATURE_NAMES,
    PRIMITIVE_NAMES,
    derived_features,
)
from keras_extras.datasets.higgs.loading import load_data, load_events

__all__ = [
    "BACKGROUND_WEIGHT_SUM",
    "DERIVED_NAMES",
    "FEATURE_NAMES",
    "PRIMITIVE_NAMES",
    "SIGNAL_WEIGHT_SUM",
    "HiggsEvents",
    "derived_features",
    "load_data",
    "load_events",
    "rescale_weights",
]
