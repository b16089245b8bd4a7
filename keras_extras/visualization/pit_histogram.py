"""PITHistogram: where targets fall within the distributions predicted for them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_extras._core.checks import check_integer
from keras_extras._core.docstrings import fill_docstring
from keras_extras.visualization.calibration import TEXTS, binomial_band, integral_transforms
from keras_extras.visualization.figures import COLORS, make_axes


@dataclass(frozen=True, eq=False)
class PITHistogram:
    """Histogram of the probability integral transforms of targets.

    The transform of target `y_i` is `F_i(y_i)` with `F_i` the distribution function predicted for
    it. It is uniform on [0, 1] if the targets are draws of the predicted distributions. The
    histogram of distributions that are too narrow is high at both ends, of too wide ones in the
    middle, and of predictions that are too high on the left. For discrete distributions the
    transform is randomized over the step of the distribution function,

    ```
    F(y - 1) + u (F(y) - F(y - 1)),  u uniform on [0, 1]
    ```

    which is uniform again. Discrete is a distribution all of whose draws are whole numbers.
    `from_distribution` computes the histogram, `plot` draws it.

    References:
        Dawid (1984), "Statistical theory: the prequential approach"; Gneiting, Balabdaoui and
        Raftery (2007), "Probabilistic forecasts, calibration and sharpness", section 3.1; Smith
        (1985), "Diagnostic checks of non-standard time series models", for the randomization.

    Args:
        edges: Array of shape `(num_bins + 1,)`, the ends of the bins, from 0 to 1.
        count: Array of shape `(num_bins,)`, the number of targets in each bin.

    Example:

    ```python
    import numpy as np
    from keras_extras import tfp, visualization

    y_true = np.random.default_rng(0).poisson(3.0, size=500)
    distribution = tfp.distributions.Poisson(np.full(500, 3.0))
    histogram = visualization.PITHistogram.from_distribution(y_true, distribution)
    figure = histogram.plot()
    ```
    """

    edges: np.ndarray
    count: np.ndarray

    @classmethod
    @fill_docstring(**TEXTS)
    def from_distribution(
        cls, y_true: Any, distribution: Any, num_bins: int = 10, seed: int = 0
    ) -> "PITHistogram":
        """Returns the histogram of a distribution with one entry for each target.

        Args:
            {targets}
            num_bins: Integer, the number of bins. Defaults to `10`.
            {seed}

        {raises}
        """
        num_bins = check_integer("num_bins", num_bins)
        transforms = integral_transforms(y_true, distribution, seed, "PITHistogram")
        count, edges = np.histogram(transforms, bins=num_bins, range=(0.0, 1.0))
        return cls(edges, count)

    @property
    def density(self) -> np.ndarray:
        """Array of shape `(num_bins,)`, the density of the transforms, 1 if they are uniform."""
        return self.count * len(self.count) / np.sum(self.count)

    def band(self, confidence: float = 0.95) -> tuple[float, float]:
        """Returns where the density of a bin lies with this probability if all is uniform.

        Args:
            confidence: Float between 0 and 1, the probability for each bin by itself, by the
                normal approximation of the binomial distribution. Defaults to `0.95`.

        Returns:
            The lower and the upper end, floats.
        """
        num_bins = len(self.count)
        lower, upper = binomial_band(1 / num_bins, np.sum(self.count), confidence)
        return float(lower * num_bins), float(upper * num_bins)

    def plot(self, ax: Any = None, confidence: float = 0.95) -> Any:
        """Draws the histogram, the uniform density and the band of chance around it.

        Args:
            ax: Matplotlib axes to draw on; a new figure without. Defaults to `None`.
            confidence: Float between 0 and 1, the probability with which the bar of a calibrated
                model ends in the band, each by itself. Defaults to `0.95`.

        Returns:
            The matplotlib Figure.
        """
        ax = make_axes(ax, 6, 4)
        style = {"align": "edge", "color": COLORS[5], "edgecolor": "white", "linewidth": 1}
        label = f"observed, {np.sum(self.count):,} targets"
        ax.bar(self.edges[:-1], self.density, np.diff(self.edges), label=label, **style)
        lower, upper = self.band(confidence)
        label = f"calibrated, {100 * confidence:g}% of samples"
        ax.axhspan(lower, upper, color=COLORS[-1], alpha=0.15, linewidth=0, label=label)
        ax.axhline(1.0, color=COLORS[-1], linewidth=1, linestyle="--")
        ax.set(
            xlabel="probability integral transform $F(y)$",
            ylabel="density",
            xlim=(0, 1),
            ylim=(0, 1.3 * max(upper, *self.density)),
        )
        ax.grid(visible=False, axis="x")
        ax.legend(frameon=False, loc="upper center", ncols=2)
        return ax.figure
