"""Derivatives of models, and of their training."""

from keras_extras.autodiff.per_step import PerStep
from keras_extras.autodiff.per_weight import PerWeight
from keras_extras.autodiff.unrolled_training import UnrolledTraining

__all__ = ["PerStep", "PerWeight", "UnrolledTraining"]
