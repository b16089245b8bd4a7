"""Keras metrics."""

from keras_extras.metrics.approximate_median_significance import ApproximateMedianSignificance
from keras_extras.metrics.brier_score import BrierScore
from keras_extras.metrics.continuous_ranked_probability_score import (
    ContinuousRankedProbabilityScore,
)
from keras_extras.metrics.expected_calibration_error import ExpectedCalibrationError
from keras_extras.metrics.interval_coverage import IntervalCoverage
from keras_extras.metrics.interval_width import IntervalWidth
from keras_extras.metrics.negative_log_likelihood import NegativeLogLikelihood

__all__ = [
    "ApproximateMedianSignificance",
    "BrierScore",
    "ContinuousRankedProbabilityScore",
    "ExpectedCalibrationError",
    "IntervalCoverage",
    "IntervalWidth",
    "NegativeLogLikelihood",
]
