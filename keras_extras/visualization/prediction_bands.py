"""PredictionBands: what a distribution says of y along x."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_extras._core.checks import check_choice, check_share
from keras_extras._core.quantiles import quantile
from keras_extras.visualization.arguments import column, flat, rows_of
from keras_extras.visualization.figures import COLORS, make_axes


@dataclass(frozen=True, eq=False)
class PredictionBands:
    """Central prediction intervals along one input, as nested bands around a line.

    The interval of level `c` lies between the quantiles `(1 - c) / 2` and `(1 + c) / 2` of the
    distribution at each `x`, so that a share `c` of the targets is expected in it.
    `from_distribution` computes the bands, `plot` draws them.

    Args:
        x: Array of shape `(n,)`, ascending.
        line: Array of shape `(n,)`, the medians or means.
        lower: Array of shape `(len(levels), n)`, the lower ends of the intervals.
        upper: Array of shape `(len(levels), n)`, the upper ends of the intervals.
        levels: Array of the levels, ascending.
        center: `"median"` or `"mean"`, what the line is.

    Example:

    ```python
    import numpy as np
    from keras_extras import tfp, visualization

    x = np.linspace(0.0, 6.0, 50)
    distribution = tfp.distributions.Normal(np.sin(x), 0.1 + 0.1 * x)
    bands = visualization.PredictionBands.from_distribution(x, distribution, levels=(0.5, 0.9))
    figure = bands.plot(x_train=[1.0, 2.0], y_train=[0.9, 0.8])
    ```
    """

    x: np.ndarray
    line: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    levels: np.ndarray
    center: str = "median"

    @classmethod
    def from_distribution(
        cls,
        x: Any,
        distribution: Any,
        levels: Sequence[float] = (0.5, 0.9),
        center: str = "median",
    ) -> "PredictionBands":
        """Computes the bands of a distribution with one entry for each `x`.

        Args:
            x: Array of shape `(n,)` or `(n, 1)`, in any order.
            distribution: A `tfd.Distribution`, such as `model(x)`, of batch shape `(n,)` or
                `(n, 1)`, or of event shape `(1,)`.
            levels: Floats between 0 and 1, the expected shares of targets in the intervals.
                Defaults to `(0.5, 0.9)`.
            center: `"median"` or `"mean"`, what the line shows. Defaults to `"median"`.

        Returns:
            The `PredictionBands`.

        Raises:
            TypeError: If `distribution` is none or a level is not a number.
            ValueError: If shapes do not fit, values are NaN or infinite, or levels are none or
                not between 0 and 1.
        """
        check_choice("center", center, ("median", "mean"))
        shares = _checked_levels(levels)
        x = column("x", x)
        distribution, rows = rows_of(distribution, "PredictionBands")
        if len(x) != rows:
            raise ValueError(
                "`x` must have one value for each row of the distribution. "
                f"Received: {len(x)} values and {rows} rows"
            )
        order = np.argsort(x, kind="stable")
        is_mean = center == "mean"
        line = flat(distribution.mean()) if is_mean else flat(quantile(distribution, 0.5))
        ends = quantile(distribution, [(1 + sign * c) / 2 for sign in (-1, 1) for c in shares])
        ends = np.stack([flat(end)[order] for end in ends])
        return cls(
            x=x[order],
            line=line[order],
            lower=ends[: len(shares)],
            upper=ends[len(shares) :],
            levels=shares,
            center=center,
        )

    def plot(
        self,
        ax: Any = None,
        x_train: Any = None,
        y_train: Any = None,
        xlabel: str = "x",
        ylabel: str = "y",
    ) -> Any:
        """Draws the bands, the line and, if given, points of data.

        Args:
            ax: Matplotlib axes to draw on; a new figure without. Defaults to `None`.
            x_train: Array of shape `(m,)` or `(m, 1)`, the inputs of the points. Defaults to
                `None`, no points.
            y_train: Array of shape `(m,)` or `(m, 1)`, the targets of the points. Defaults to
                `None`.
            xlabel: String, what `x` is and its unit. Defaults to `"x"`.
            ylabel: String, what is predicted and its unit. Defaults to `"y"`.

        Returns:
            The matplotlib Figure.

        Raises:
            ValueError: If the points do not fit together or are NaN or infinite.
        """
        points = _points(x_train, y_train)
        ax = make_axes(ax, 7, 4.5)
        # From the widest, the palest, to the narrowest, which lies on top.
        shades = np.linspace(0.55, 0.2, len(self.levels)) if len(self.levels) > 1 else [0.3]
        bands = list(zip(self.levels, self.lower, self.upper, shades))
        for level, lower, upper, shade in reversed(bands):
            color = _tint(COLORS[0], shade)
            label = f"{100 * level:g}% interval"
            ax.fill_between(self.x, lower, upper, color=color, linewidth=0, label=label)
        ax.plot(self.x, self.line, color=COLORS[0], linewidth=1.8, label=self.center)
        if points:
            style = {"s": 14, "color": COLORS[-1], "alpha": 0.6, "linewidths": 0, "zorder": 3}
            ax.scatter(*points, label="training data", **style)
        ax.set(xlabel=xlabel, ylabel=ylabel)
        ax.margins(x=0.02)
        ax.legend(edgecolor="none", framealpha=0.8)
        return ax.figure


def _checked_levels(levels):
    levels = np.sort([check_share("levels", level) for level in levels])
    if not levels.size:
        raise ValueError("`levels` must not be empty. Received: levels=()")
    return levels


def _points(x_train, y_train):
    """The points to draw, or nothing."""
    if x_train is None and y_train is None:
        return ()
    if x_train is None or y_train is None:
        missing = "x_train" if x_train is None else "y_train"
        raise ValueError(f"`x_train` and `y_train` go together. Received: {missing}=None")
    x_train, y_train = column("x_train", x_train), column("y_train", y_train)
    if len(x_train) != len(y_train):
        raise ValueError(
            "`x_train` and `y_train` must have the same length. "
            f"Received: {len(x_train)} and {len(y_train)} values"
        )
    return x_train, y_train


def _tint(color, share):
    """The color `#rrggbb` with a share of it left and white for the rest."""
    channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return tuple(1 - share * (1 - channels))
