"""Figures. A function `plot_...` computes what it shows, draws it and returns a matplotlib Figure;
a class computes first, by a method `from_...`, keeps the arrays, and draws them with `plot`."""

from keras_extras.visualization.figures import save_figure
from keras_extras.visualization.history import plot_history
from keras_extras.visualization.intervals import plot_intervals
from keras_extras.visualization.latents import plot_latents
from keras_extras.visualization.loss_landscape import LossLandscape
from keras_extras.visualization.pit_histogram import PITHistogram
from keras_extras.visualization.prediction_bands import PredictionBands
from keras_extras.visualization.quantile_calibration import QuantileCalibration
from keras_extras.visualization.reconstructions import plot_reconstructions
from keras_extras.visualization.reliability_diagram import ReliabilityDiagram
from keras_extras.visualization.schedules import plot_schedules
from keras_extras.visualization.search import plot_search

__all__ = [
    "LossLandscape",
    "PITHistogram",
    "PredictionBands",
    "QuantileCalibration",
    "ReliabilityDiagram",
    "plot_history",
    "plot_intervals",
    "plot_latents",
    "plot_reconstructions",
    "plot_schedules",
    "plot_search",
    "save_figure",
]
