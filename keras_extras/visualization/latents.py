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
    """Plots latents, coloured by class, on their first two principal components.

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
    classes = np.unique(labels)
    for color, label in zip(COLORS * len(classes), classes):
        chosen = points[labels == label]
        name = (names or {}).get(label.item(), str(label))
        ax.scatter(*chosen.T, s=7, alpha=0.35, linewidths=0, color=color, label=name)
    limits = np.quantile(points, (0.002, 0.998), axis=0)
    margins = 0.1 * (limits[1] - limits[0])
    ax.set(
        xlabel=f"first principal component ({share[0]:.0%} of the variance)",
        ylabel=f"second principal component ({share[1]:.0%})",
        xlim=(limits[0, 0] - margins[0], limits[1, 0] + margins[0]),
        ylim=(limits[0, 1] - margins[1], limits[1, 1] + margins[1]),
    )
    for handle in ax.legend(frameon=False, markerscale=3).legend_handles:
        handle.set_alpha(1)
    return ax.figure
