"""Intervals of parameters."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_extras.visualization.figures import COLORS, make_axes


def plot_intervals(intervals: Mapping[str, Any], max_entries: int = 40, ax: Any = None) -> Any:
    """Plots intervals as horizontal bars around their centers, one row for each entry.

    What all names begin with, such as the name of the model, is left out.

    Args:
        intervals: Dict from names to triples `(lower, center, upper)` of numbers or of arrays of
            one shape, as from `MonteCarloOptimizer.confidence_intervals`.
        max_entries: Integer, how many rows to draw at most; the title counts the others.
            Defaults to `40`.
        ax: Matplotlib axes to draw on; a new figure without. Defaults to `None`.

    Returns:
        The matplotlib Figure.

    Raises:
        ValueError: If there are no intervals.

    Example:

    ```python
    from keras_extras import visualization

    figure = visualization.plot_intervals({"alpha": (0.5, 1.0, 1.5), "beta": (0.0, 0.1, 0.3)})
    ```
    """
    start = _shared_folder(intervals)
    rows = [
        (f"{name[start:]}{list(index) if index else ''}", color, *values)
        for color, (name, interval) in zip(COLORS * len(intervals), intervals.items())
        for index, values in _entries(interval)
    ]
    if not rows:
        raise ValueError(f"`intervals` must not be empty. Received: intervals={intervals}")
    names, colors, *bounds = zip(*rows[:max_entries])
    lower, center, upper = (np.array(values) for values in bounds)

    ax = make_axes(ax, 7, 1 + 0.24 * len(names))
    positions = np.arange(len(names))
    ax.axvline(0, color="0.6", linewidth=1)
    ax.hlines(positions, lower, upper, color=colors, linewidth=2.5)
    ax.scatter(center, positions, color="white", edgecolors=colors, s=26, linewidths=1.5, zorder=3)
    ax.set_yticks(positions, names, fontsize=9)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel="value")
    ax.grid(visible=False, axis="y")
    if len(rows) > len(names):
        ax.set_title(f"first {len(names)} of {len(rows)} parameters", fontsize=11)
    return ax.figure


def _shared_folder(paths):
    """Length of the folders that all paths lie in, 4 for `a/b/c` and `a/b/d/e`."""
    folders = [path.split("/")[:-1] for path in paths]
    shared = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*folders))
    return sum(len(level[0]) + 1 for level in shared)


def _entries(interval):
    """Index and `(lower, center, upper)` of each number in a triple of arrays."""
    arrays = [np.asarray(values) for values in interval]
    for index in np.ndindex(arrays[0].shape):
        yield index, tuple(float(values[index]) for values in arrays)
