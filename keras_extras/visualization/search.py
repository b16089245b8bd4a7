"""How a search by sampling went."""

from typing import Any

import numpy as np

from keras_extras._core.optional import import_optional
from keras_extras.visualization.figures import COLORS, drawable, make_figure, style_axes

# Of each panel: the label of its axis, its scale, and what it shows under which name.
_PANELS = (
    (
        "loss",
        "log",
        {"loss": "in the logs", "center_loss": "at the center", "best_loss": "best candidate"},
    ),
    ("distance", "log", {"width": "of candidates", "step": "of the last move"}),
    ("share", "linear", {"better_share": "of candidates better than the center"}),
    ("axis ratio", "log", {"axis_ratio": "longest by shortest axis"}),
)


def plot_search(history: Any) -> Any:
    """Plots what `callbacks.SearchMonitor` recorded against the updates of the search.

    The first panel shows losses, the second how far candidates lie from the center of the search
    and how far it moves, and the third which share of the candidates was better than the center; a
    fourth, for `CMAES`, how long its distribution is. Losses below zero make their scale linear.

    Args:
        history: A `SearchMonitor`, or its `history` dict.

    Returns:
        The matplotlib Figure.

    Raises:
        ValueError: If something is missing in `history`, or nothing was recorded.

    Example:

    ```python
    from keras_extras import visualization

    history = {
        "update": [10, 20, 30],
        "loss": [1.0, 0.4, 0.3],
        "center_loss": [0.9, 0.4, 0.25],
        "best_loss": [0.7, 0.3, 0.24],
        "better_share": [0.48, 0.4, 0.2],
        "width": [0.035, 0.031, 0.029],
        "step": [0.02, 0.01, 0.005],
    }
    figure = visualization.plot_search(history)
    ```
    """
    records = getattr(history, "history", history)
    panels = [panel for panel in _PANELS if panel[0] != "axis ratio" or "axis_ratio" in records]
    missing = {"update", *(name for *_, names in panels for name in names)} - set(records)
    if missing or not len(records["update"]):
        raise ValueError(
            "`history` must hold what a `SearchMonitor` recorded in `fit`. Received: a history "
            f"of {len(records.get('update', ()))} records"
            + (f" without {', '.join(map(repr, sorted(missing)))}" if missing else "")
        )
    ticker = import_optional("matplotlib.ticker", "plots", "keras_extras.visualization")
    figure = make_figure(7, 2.2 * len(panels))
    values = {name: drawable(records[name]) for *_, names in panels for name in names}
    updates = drawable(records["update"])
    for name, found in values.items():
        if len(found) != len(updates):
            raise ValueError(
                f"`history` must hold a value of {name!r} for each of {len(updates)} updates. "
                f"Received: {len(found)}"
            )
    all_axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for ax, (label, scale, names) in zip(all_axes, panels):
        style_axes(ax)
        for color, (name, meaning) in zip(COLORS, names.items()):
            marker = "o" if len(updates) == 1 else None
            ax.plot(updates, values[name], color=color, marker=marker, label=meaning)
        is_positive = all(np.nanmin([1.0, *values[name]]) > 0 for name in names)
        ax.set(ylabel=label, yscale=scale if is_positive else "linear")
        if ax.get_yscale() == "log":
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter(ticker.LogFormatter())
        ax.legend(frameon=False)
    all_axes[2].set_ylim(0, 1)
    all_axes[-1].set_xlabel("update")
    return figure
