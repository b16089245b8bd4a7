"""The latent space, seen along its two widest directions."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_extras.visualization.figures import COLORS, make_axes


def plot_latents(
    latents: Any,
    labels: Any,
    names: Mapping[Any, str] | None = None,
    max_points: int = 4000,
    ax: Any = None,
) -> Any:
    """Plots latents, colored by class, on their first two principal components.

    Args:
        latents: Array of shape `(n, units)`, units of at least 2.
        labels: Array of shape `(n,)` of classes.
        names: Dict from class to the name shown. Defaults to `None`, the classes themselves.
        max_points: Integer, how many points to draw at most, evenly taken. Defaults to `4000`.
        ax: Matplotlib axes to draw on; a new figure without. Defaults to `None`.

    Returns:
        The matplotlib Figure.

    Raises:
        ValueError: If shapes are other than these.

    Example:

    ```python
    import numpy as np
    from keras_extras import visualization

    latents = np.random.default_rng(0).normal(size=(100, 5))
    figure = visualization.plot_latents(latents, latents[:, 0] > 0, {False: "low", True: "high"})
    ```
    """
    latents, labels = np.asarray(latents), np.asarray(labels)
    if latents.ndim != 2 or latents.shape[1] < 2 or labels.shape != latents.shape[:1]:
        raise ValueError(
            "`latents` must have shape (n, units) with units of at least 2, and `labels` (n,). "
            f"Received: latents.shape={latents.shape}, labels.shape={labels.shape}"
        )
    step = -(-len(latents) // max_points)
    centered = (latents - latents.mean(axis=0))[::step]
    labels = labels[::step]
    _, widths, directions = np.linalg.svd(centered, full_matrices=False)
    points = centered @ directions[:2].T
    share = widths[:2] ** 2 / np.sum(widths**2)

    ax = make_axes(ax, 6.5, 5.5)
    classes, index = np.unique(labels, return_inverse=True)
    colors = np.array(COLORS * len(classes))[: len(classes)]
    # All classes in one layer, point by point: none hides another.
    ax.scatter(*points.T, s=10, alpha=0.5, linewidths=0, c=colors[index])
    for color, label in zip(colors, classes):
        name = (names or {}).get(label.item(), str(label))
        ax.scatter([], [], s=40, linewidths=0, color=color, label=name)
    # A few far events would press all others into a corner.
    low, high = np.quantile(points, (0.005, 0.995), axis=0)
    margin = 0.1 * (high - low)
    ax.set(
        xlabel=f"first principal component ({share[0]:.0%} of the variance)",
        ylabel=f"second principal component ({share[1]:.0%})",
        xlim=(low[0] - margin[0], high[0] + margin[0]),
        ylim=(low[1] - margin[1], high[1] + margin[1]),
    )
    ax.legend(frameon=False)
    return ax.figure
