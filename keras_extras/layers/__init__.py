"""What models are made of."""

from keras_extras.layers.distribution_lambda import DistributionLambda
from keras_extras.layers.einstein_latent import EinsteinLatent
from keras_extras.layers.missing_value_imputer import MissingValueImputer
from keras_extras.layers.scale_shift import ScaleShift

__all__ = ["DistributionLambda", "EinsteinLatent", "MissingValueImputer", "ScaleShift"]
