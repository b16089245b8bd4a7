"""What models are trained for."""

from keras_extras.losses.beta_negative_log_likelihood import BetaNegativeLogLikelihood
from keras_extras.losses.continuous_ranked_probability import ContinuousRankedProbability
from keras_extras.losses.negative_log_likelihood import NegativeLogLikelihood

__all__ = ["BetaNegativeLogLikelihood", "ContinuousRankedProbability", "NegativeLogLikelihood"]
