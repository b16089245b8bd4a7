"""Intervals of parameters."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_extras.visualization.figures import COLORS, make_axes


def plot_intervals(intervals: Mapping[str, Any], max_entries: int = 40, ax: Any = None) -> Any:
    """Plots intervals as horizontal bars around their centers, one row for each entry.

    Args:
        intervals: Dict from names to triples `(lower, center, upper)` of numbers or of arrays of
            one shape, as from `MonteCarloOptimizer.confidence_intervals`.
        max_entries: Integer, how many rows to draw at most; the title tells of the others.
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
    rows = [
        (f"{name}{list(index)}" if index else name, *values)
        for name, interval in intervals.items()
        for index, values in _entries(interval)
    ]
    if not rows:
        raise ValueError("`intervals` must not be empty. Received: intervals={}")
    names, *bounds = zip(*rows[:max_entries])
    lower, center, upper = (np.array(values) for values in bounds)

    ax = make_axes(ax, 7, 1.2 + 0.28 * len(names))
    positions = np.arange(len(names))
    ax.hlines(positions, lower, upper, color=COLORS[0], linewidth=2)
    ax.plot(center, positions, "o", color=COLORS[1], markersize=4)
    ax.set_yticks(positions, names, fontsize=8)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel="value")
    ax.grid(alpha=0.3, axis="x")
    if len(rows) > len(names):
        ax.set_title(f"first {len(names)} of {len(rows)} parameters", fontsize=9)
    return ax.figure


def _entries(interval):
    """Index and `(lower, center, upper)` of each number in a triple of arrays."""
    arrays = [np.asarray(values) for values in interval]
    for index in np.ndindex(arrays[0].shape):
        yield index, tuple(float(values[index]) for values in arrays)
