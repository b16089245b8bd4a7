"""The training of a model as one function, which has derivatives."""

from keras_extras.unrolled.unrolled_training import UnrolledTraining
from keras_extras.unrolled.varying import PerStep, PerWeight

__all__ = ["PerStep", "PerWeight", "UnrolledTraining"]
