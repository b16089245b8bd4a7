"""Keras losses."""

from keras_extras.losses.approximate_median_significance_loss import (
    ApproximateMedianSignificanceLoss,
)
from keras_extras.losses.auc_loss import AUCLoss
from keras_extras.losses.beta_negative_log_likelihood import BetaNegativeLogLikelihood
from keras_extras.losses.continuous_ranked_probability_score import ContinuousRankedProbabilityScore
from keras_extras.losses.f1_loss import F1Loss
from keras_extras.losses.fbeta_loss import FBetaLoss
from keras_extras.losses.negative_log_likelihood import NegativeLogLikelihood
from keras_extras.losses.zero_one_loss import ZeroOneLoss

__all__ = [
    "AUCLoss",
    "ApproximateMedianSignificanceLoss",
    "BetaNegativeLogLikelihood",
    "ContinuousRankedProbabilityScore",
    "F1Loss",
    "FBetaLoss",
    "NegativeLogLikelihood",
    "ZeroOneLoss",
]
