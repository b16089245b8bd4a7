"""Figures of learned hyperparameters."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_extras._core.optional import import_optional
from keras_extras.visualization.figures import COLORS, make_figure, style_axes


def plot_schedules(schedules: Mapping[str, Mapping[str, Any]]) -> Any:
    """Plots learning rates, momenta and other hyperparameters of steps, one panel for each.

    Each run has a color. A hyperparameter that is one number for all steps is a level line.
    Learning rates, which are positive numbers of any size, have a logarithmic axis.

    Args:
        schedules: Dict from the names of runs, such as `"start"` and `"learned"`, to their
            hyperparameters: dicts from names to numbers or vectors with one number for each step,
            such as `UnrolledTraining.hyperparameters`. Others, as penalties of single weights,
            are left out.

    Returns:
        The matplotlib Figure.

    Raises:
        ValueError: If there is nothing with one value for each step, or their numbers differ.

    Example:

    ```python
    import numpy as np
    from keras_extras import visualization

    start = {"learning_rate": np.full(20, 0.1), "momentum": 0.5}
    learned = {"learning_rate": np.linspace(0.3, 0.01, 20), "momentum": 0.9}
    figure = visualization.plot_schedules({"start": start, "learned": learned})
    ```
    """
    runs = {run: {k: np.asarray(v) for k, v in found.items()} for run, found in schedules.items()}
    # Names with a slash act on weights or outputs, and `sample_weight` on rows.
    found_names = dict.fromkeys(name for found in runs.values() for name in found)
    names = [name for name in found_names if "/" not in name and name != "sample_weight"]
    lengths = {
        values.size
        for found in runs.values()
        for name, values in found.items()
        if name in names and values.ndim
    }
    if len(lengths) != 1:
        raise ValueError(
            "`schedules` must hold hyperparameters with one value for each of equally many steps. "
            f"Received: {sorted(lengths) or 'none'} steps in {list(runs)} of {names}"
        )
    steps = np.arange(lengths.pop())
    ticker = import_optional("matplotlib.ticker", "plots", "keras_extras.visualization")
    figure = make_figure(7, 2.4 * len(names))
    all_axes = figure.subplots(len(names), sharex=True, squeeze=False)[:, 0]
    for ax, name in zip(all_axes, names):
        style_axes(ax)
        for color, (run, found) in zip(COLORS * len(runs), runs.items()):
            if name in found:
                values = np.broadcast_to(found[name], steps.shape)
                ax.plot(steps, values, color=color, label=run)
        ax.set_ylabel(name.replace("_", " "))
        if name == "learning_rate":
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter(ticker.LogFormatter())
    all_axes[0].legend(frameon=False)
    all_axes[-1].set_xlabel("step")
    return figure
