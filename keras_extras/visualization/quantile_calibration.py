"""QuantileCalibration: how often targets stay below the quantiles predicted for them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_extras._core.checks import check_integer
from keras_extras._core.docstrings import fill_docstring
from keras_extras.visualization.calibration import TEXTS, binomial_band, integral_transforms
from keras_extras.visualization.figures import COLORS, make_axes


@dataclass(frozen=True, eq=False)
class QuantileCalibration:
    """Calibration of a regression: observed against expected shares of targets.

    With `F_i` the distribution function predicted for row `i`, the observed share at level `p` is

    ```
    observed(p) = mean over i of [F_i(y_i) <= p]
    ```

    which is close to `p` at all levels if the model is calibrated. Distributions that are too
    narrow give a curve above the diagonal at small `p` and below it at large `p`; those that are
    too wide the reverse. A curve above the diagonal at all levels means predictions that are
    too high. Of discrete distributions `F_i(y_i)` is randomized as in `PITHistogram`, without
    which no model would lie on the diagonal. `from_distribution` computes the curve, `plot` draws
    it.

    References:
        Kuleshov, Fenner and Ermon (2018), "Accurate uncertainties for deep learning using
        calibrated regression", section 3.5, [arXiv:1807.00263](https://arxiv.org/abs/1807.00263).

    Args:
        expected: Array of shape `(num_levels,)`, the levels `p`, ascending.
        observed: Array of shape `(num_levels,)`, the share of targets with `F(y) <= p`.
        num_targets: Integer, the number of targets.

    Example:

    ```python
    import numpy as np
    from keras_extras import tfp, visualization

    y_true = np.random.default_rng(0).normal(size=500)
    distribution = tfp.distributions.Normal(np.zeros(500), 0.5)  # too narrow by half
    calibration = visualization.QuantileCalibration.from_distribution(y_true, distribution)
    calibration.error  # 0.11
    figure = calibration.plot()
    ```
    """

    expected: np.ndarray
    observed: np.ndarray
    num_targets: int

    @classmethod
    @fill_docstring(**TEXTS)
    def from_distribution(
        cls, y_true: Any, distribution: Any, num_levels: int = 19, seed: int = 0
    ) -> "QuantileCalibration":
        """Returns the curve of a distribution with one entry for each target.

        Args:
            {targets}
            num_levels: Integer, how many levels to take, evenly between 0 and 1. Defaults to
                `19`, in steps of 0.05.
            {seed}

        {raises}
        """
        num_levels = check_integer("num_levels", num_levels)
        transforms = integral_transforms(y_true, distribution, seed, "QuantileCalibration")
        expected = np.linspace(0.0, 1.0, num_levels + 2)[1:-1]
        below = np.searchsorted(np.sort(transforms), expected, side="right")
        return cls(expected, below / len(transforms), len(transforms))

    @property
    def error(self) -> float:
        """Mean absolute deviation of the observed from the expected shares."""
        return float(np.mean(np.abs(self.observed - self.expected)))

    def band(self, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Returns where each observed share of a calibrated model lies with this probability.

        Args:
            confidence: Float between 0 and 1, the probability at each level by itself, by the
                normal approximation of the binomial distribution. Defaults to `0.95`.

        Returns:
            The lower and the upper ends, arrays of shape `(num_levels,)`.
        """
        return binomial_band(self.expected, self.num_targets, confidence)

    def plot(self, ax: Any = None, confidence: float = 0.95) -> Any:
        """Draws the curve, the diagonal and the band of chance around it.

        Args:
            ax: Matplotlib axes to draw on; a new figure without. Defaults to `None`.
            confidence: Float between 0 and 1, the probability with which a calibrated model lies
                in the band, at each level by itself. Defaults to `0.95`.

        Returns:
            The matplotlib Figure.
        """
        ax = make_axes(ax, 5, 5)
        levels = np.linspace(0.0, 1.0, 201)
        lower, upper = binomial_band(levels, self.num_targets, confidence)
        label = f"calibrated, {100 * confidence:g}% of samples"
        ax.fill_between(levels, lower, upper, color="0.85", linewidth=0, label=label)
        ax.plot([0, 1], [0, 1], color="0.4", linewidth=1, linestyle="--")
        label = f"observed, mean deviation {self.error:.3f}"
        style = {"color": COLORS[0], "marker": "o", "markersize": 4.5, "linewidth": 1.5}
        ax.plot(self.expected, self.observed, label=label, clip_on=False, zorder=3, **style)
        ax.set(
            xlabel="expected share of targets below the quantile",
            ylabel="observed share of targets below the quantile",
            xlim=(0, 1),
            ylim=(0, 1),
            box_aspect=1,
        )
        ax.legend(frameon=False, loc="upper left")
        return ax.figure
