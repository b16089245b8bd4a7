"""Inputs of an autoencoder beside its reconstructions, feature by feature."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_extras.visualization.figures import COLORS, make_figure, style_axes

_COLUMNS = 6


def plot_reconstructions(
    x: Any,
    reconstructions: Any,
    feature_names: Sequence[str] | None = None,
    max_features: int = 30,
    max_points: int = 1000,
) -> Any:
    """Plots reconstructed against true values, one panel for each feature, with its R squared.

    Args:
        x: Array of shape `(n, d)`.
        reconstructions: Array of the same shape.
        feature_names: `d` names. Defaults to `None`, their numbers.
        max_features: Integer, how many panels to draw at most; the title counts the others.
            Defaults to `30`.
        max_points: Integer, how many rows to draw at most, evenly taken; R squared counts all.
            Defaults to `1000`.

    Returns:
        The matplotlib Figure.

    Raises:
        ValueError: If shapes differ or the number of names is another.

    Example:

    ```python
    import numpy as np
    from keras_extras import visualization

    x = np.random.default_rng(0).normal(size=(100, 4))
    figure = visualization.plot_reconstructions(x, 0.9 * x, list("abcd"))
    ```
    """
    x, reconstructions = np.asarray(x), np.asarray(reconstructions)
    if x.ndim != 2 or x.shape != reconstructions.shape:
        raise ValueError(
            "`x` and `reconstructions` must have the same shape (n, d). Received: "
            f"x.shape={x.shape}, reconstructions.shape={reconstructions.shape}"
        )
    names = [f"feature {j}" for j in range(x.shape[1])] if feature_names is None else feature_names
    if len(names) != x.shape[1]:
        raise ValueError(
            f"`feature_names` must hold {x.shape[1]} names. Received: {len(names)} of them"
        )
    residual = np.mean((x - reconstructions) ** 2, axis=0)
    r_squared = 1 - residual / np.maximum(np.var(x, axis=0), 1e-12)

    drawn = min(x.shape[1], max_features)
    columns = min(_COLUMNS, drawn)
    rows = -(-drawn // columns)
    figure = make_figure(2.1 * columns, 2.2 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    step = -(-len(x) // max_points)
    for j, panel in enumerate(panels):
        if j >= drawn:
            panel.set_axis_off()
            continue
        true, restored = x[::step, j], reconstructions[::step, j]
        low, high = np.quantile(np.concatenate([true, restored]), (0.005, 0.995))
        margin = 0.05 * (high - low) + 1e-6
        limits = (low - margin, high + margin)
        style_axes(panel)
        panel.plot(limits, limits, color=COLORS[1], linewidth=1)
        panel.scatter(true, restored, s=4, alpha=0.35, linewidths=0, color=COLORS[0])
        panel.set(xlim=limits, ylim=limits, box_aspect=1)
        panel.set_title(f"{names[j]}\n$R^2$ = {r_squared[j]:.2f}", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.locator_params(nbins=4)
    figure.supxlabel("true value", fontsize=11)
    figure.supylabel("reconstructed value", fontsize=11)
    if drawn < x.shape[1]:
        figure.suptitle(f"first {drawn} of {x.shape[1]} features", fontsize=11)
    return figure
