"""The approximate median significance of selected events."""

from typing import Any

import keras
from keras import ops

# Of the docstrings of the loss and the metric.
REFERENCES = """
    References:
        Cowan, Cranmer, Gross and Vitells (2011), "Asymptotic formulae for likelihood-based tests
        of new physics", equation 97, [arXiv:1007.1727](https://arxiv.org/abs/1007.1727);
        Adam-Bourdarios, Cowan, Germain, Guyon, Kegl and Rousseau (2014), "Learning to discover:
        the Higgs boson machine learning challenge", which adds `b_r = 10`.
    """


def approximate_median_significance(signal: Any, background: Any, regularization: float) -> Any:
    """Returns the significance of sums of weights; 0 where that of the signal is negative.

    Args:
        signal: Tensor, the sum of the weights of the selected signal events.
        background: Tensor, that of the selected background events.
        regularization: Float of at least 0 that is added to the background.
    """
    signal = ops.maximum(signal, 0.0)
    background = ops.maximum(background + regularization, keras.config.epsilon())
    return ops.sqrt(2.0 * background * _excess(signal / background))


def _excess(ratio):
    """`(1 + ratio) * log(1 + ratio) - ratio`, by its series where the terms would cancel."""
    series = ratio**2 * (1 / 2 - ratio * (1 / 6 - ratio * (1 / 12 - ratio / 20)))
    return ops.where(ratio < 0.03, series, (1.0 + ratio) * ops.log1p(ratio) - ratio)
