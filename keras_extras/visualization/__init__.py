"""Figures: each function computes what it shows, draws it and returns a matplotlib Figure."""

from keras_extras.visualization.figures import save_figure
from keras_extras.visualization.history import plot_history
from keras_extras.visualization.intervals import plot_intervals
from keras_extras.visualization.latents import plot_latents
from keras_extras.visualization.reconstructions import plot_reconstructions

__all__ = [
    "plot_history",
    "plot_intervals",
    "plot_latents",
    "plot_reconstructions",
    "save_figure",
]
