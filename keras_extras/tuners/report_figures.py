"""The figure of a search in which each trial is a line."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_extras._core.optional import import_optional
from keras_extras.tuners.report_values import label
from keras_extras.visualization.figures import make_figure

# Larger figures cannot be drawn.
MAX_INCHES = 100
_BELOW = -0.15
_BEHIND_TEXT = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}


def draw_parallel_coordinates(
    columns: Mapping[str, tuple[np.ndarray, Mapping[float, str]]],
    scores: np.ndarray,
    objective: str,
    direction: str,
) -> Any:
    """Draws each trial as a line through its hyperparameters, colored by its score.

    Args:
        columns: Dict from hyperparameters to the heights of all trials, below 0 where it does not
            count, and the labels of some heights.
        scores: Of all trials; lines of those that are not finite are gray.
        objective: String, the label of the scores.
        direction: `"min"` or `"max"`, which scores are better, and above others.

    Returns:
        The matplotlib Figure.
    """
    cm = import_optional("matplotlib.cm", "plots", "SearchReport")
    colors = import_optional("matplotlib.colors", "plots", "SearchReport")
    figure = make_figure(min(max(5, 1.3 * len(columns)), MAX_INCHES), 4)
    ax = figure.subplots()
    is_finite = np.isfinite(scores)
    known = scores[is_finite] if is_finite.any() else np.array([0.0, 1.0])
    is_min = direction == "min"
    palette = "viridis_r" if is_min else "viridis"
    shades = cm.ScalarMappable(colors.Normalize(known.min(), known.max()), palette)
    heights = [np.where(column < 0, _BELOW, column) for column, _ in columns.values()]
    goodness = np.where(is_finite, -scores if is_min else scores, -np.inf)
    for row in np.argsort(goodness, kind="stable"):
        color = shades.to_rgba(scores[row]) if is_finite[row] else "0.8"
        line = [column[row] for column in heights]
        ax.plot(line, color=color, linewidth=1.5, marker="o" if len(line) == 1 else None)
    for axis, (_, labels) in enumerate(columns.values()):
        ax.axvline(axis, color="0.8", zorder=0)
        for height, text in labels.items():
            ax.text(axis, height, f" {text}", fontsize=8, va="center", bbox=_BEHIND_TEXT)
    ax.set_xticks(range(len(columns)), [label(name) for name in columns], rotation=30, ha="right")
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    figure.colorbar(shades, ax=ax, label=label(objective))
    return figure
