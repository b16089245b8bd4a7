"""What to judge models by."""

from keras_extras.metrics.approximate_median_significance import ApproximateMedianSignificance

__all__ = ["ApproximateMedianSignificance"]
