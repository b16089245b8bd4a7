"""Helpers of all figures: matplotlib on first use, colors, axes, files."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_extras._core.files import whole_file
from keras_extras._core.optional import import_optional

# Okabe and Ito (2008): colors that stay apart for color-blind readers.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Beyond these the margins of axes leave the range of floats.
_LARGEST, _SMALLEST = 1e120, 1e-120


def drawable(values: Any) -> np.ndarray:
    """Returns numbers as floats that axes can hold; NaN, which is not drawn, if not finite."""
    numbers = np.array([as_float(value) for value in values])
    sizes = np.clip(np.abs(numbers), _SMALLEST, _LARGEST)
    return np.where(np.isfinite(numbers), np.where(numbers == 0.0, 0.0, sizes), np.nan) * np.where(
        numbers < 0.0, -1.0, 1.0
    )


def as_float(value: Any) -> float:
    """Returns a number as a float: infinite beyond its range, NaN for `None`."""
    try:
        return math.nan if value is None else float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def make_axes(ax: Any, width: float, height: float) -> Any:
    """Returns `ax`, or the axes of a new figure that pyplot does not know of, in our style."""
    if ax is None:
        ax = make_figure(width, height).subplots()
    style_axes(ax)
    return ax


def style_axes(ax: Any) -> None:
    """Leaves the lines that carry information: two spines, and a pale grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)


def make_figure(width: float, height: float) -> Any:
    """Returns an empty matplotlib Figure of a size in inches."""
    figure = import_optional("matplotlib.figure", "plots", "keras_extras.visualization").Figure
    return figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: str | os.PathLike, dpi: int = 150) -> Path:
    """Writes a figure to a file, which is complete or not there at all.

    Args:
        figure: A matplotlib Figure.
        path: Path of the file, whose ending names the format, such as `.png`.
        dpi: Integer, dots per inch. Defaults to `150`.

    Returns:
        The path.

    Raises:
        TypeError: If `figure` is no figure.

    Example:

    ```python
    import os
    import tempfile
    from keras_extras import visualization

    figure = visualization.plot_history({"a run": {"loss": [1.0, 0.5, 0.25]}})
    visualization.save_figure(figure, os.path.join(tempfile.mkdtemp(), "loss.png"))
    ```
    """
    if not hasattr(figure, "savefig"):
        raise TypeError(
            "`figure` must be a matplotlib Figure. "
            f"Received: a value of type {type(figure).__name__}"
        )
    path = Path(path)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return path
