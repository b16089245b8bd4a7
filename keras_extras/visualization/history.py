"""Loss curves."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_extras._core.optional import import_optional
from keras_extras.visualization.figures import COLORS, make_axes


def plot_history(
    histories: Any, metric: str = "loss", floor: float | None = None, ax: Any = None
) -> Any:
    """Plots a metric of one or more training runs against the epochs.

    The scale is logarithmic if all values are positive. Values on validation data are dashed.

    Args:
        histories: What `fit` returned or, of several runs, a dict from their names to that or to
            its `history` dict.
        metric: Name in the logs. Defaults to `"loss"`.
        floor: A value that cannot or need not be surpassed, shown as a line. Defaults to `None`.
        ax: Matplotlib axes to draw on; a new figure without. Defaults to `None`.

    Returns:
        The matplotlib Figure.

    Raises:
        TypeError: If `histories` holds something else.
        ValueError: If a run did not log `metric`, or there is no run.

    Example:

    ```python
    from keras_extras import visualization

    runs = {"sgd": {"loss": [1.0, 0.6, 0.4]}, "adam": {"loss": [1.0, 0.4, 0.3]}}
    figure = visualization.plot_history(runs, floor=0.25)
    ```
    """
    runs = _logs_of_runs(histories)
    ax = make_axes(ax, 7, 4.5)
    longest, is_positive = 0, floor is None or floor > 0
    for color, (name, logs) in zip(COLORS * len(runs), runs.items()):
        if metric not in logs:
            raise ValueError(
                f"`metric` must be one of {', '.join(map(repr, logs))}, which run {name!r} "
                f"logged. Received: metric={metric!r}"
            )
        for key, style, label in (
            (metric, "-", name),
            (f"val_{metric}", "--", f"{name}, held out"),
        ):
            if key in logs:
                epochs = np.arange(1, len(logs[key]) + 1)
                marker = "o" if len(epochs) == 1 else None
                ax.plot(epochs, logs[key], style, marker=marker, color=color, label=label)
                longest = max(longest, len(epochs))
                is_positive = is_positive and not np.any(np.less_equal(logs[key], 0))
    if floor is not None:
        ax.axhline(floor, color="0.4", linewidth=1, linestyle=":", label=f"floor, {floor:.4g}")
    ax.set(xlabel="epoch", ylabel=metric, xlim=(1, max(longest, 2)))
    if is_positive:
        ticker = import_optional("matplotlib.ticker", "plots", "keras_extras.visualization")
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(ticker.NullLocator())
    ax.legend(frameon=False)
    return ax.figure


def _logs_of_runs(histories):
    """A dict from names of runs to their logs."""
    if isinstance(histories, keras.callbacks.History):
        histories = {"training": histories}
    if not isinstance(histories, Mapping):
        raise TypeError(
            "`histories` must be what `fit` returned, or a dict from names to that. "
            f"Received: a value of type {type(histories).__name__}"
        )
    if not histories:
        raise ValueError("`histories` must hold a run. Received: histories={}")
    runs = {name: getattr(history, "history", history) for name, history in histories.items()}
    for name, logs in runs.items():
        if not isinstance(logs, Mapping):
            raise TypeError(
                "Each entry of `histories` must be what `fit` returned, or its `history`. "
                f"Received: a value of type {type(logs).__name__} for {name!r}"
            )
    return runs
