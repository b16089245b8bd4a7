"""ReliabilityDiagram: how often a classifier is right, by how sure it was."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_extras._core.checks import check_integer
from keras_extras.visualization.classes import class_labels, class_probabilities
from keras_extras.visualization.figures import COLORS, make_axes, style_axes


@dataclass(frozen=True, eq=False)
class ReliabilityDiagram:
    """Calibration of a classifier: how often predictions come true, by their probability.

    The predictions are sorted by probability into bins of equal width, upper ends included. In
    each bin the mean of the probabilities, `confidence`, is compared with the share of
    predictions that came true, `accuracy`; both are equal, up to chance, if the model is
    calibrated. Of two classes with one probability each, that of the positive class, this is the
    share of positives; of more classes the prediction is the most probable class.
    `from_predictions` computes the diagram, `plot` draws it.

    References:
        DeGroot and Fienberg (1983), "The comparison and evaluation of forecasters"; Guo, Pleiss,
        Sun and Weinberger (2017), "On calibration of modern neural networks", equation 3 for the
        expected calibration error, [arXiv:1706.04599](https://arxiv.org/abs/1706.04599); Wilson
        (1927), "Probable inference, the law of succession, and statistical inference".

    Args:
        edges: Array of shape `(num_bins + 1,)`, the ends of the bins, from 0 to 1.
        confidence: Array of shape `(num_bins,)`, the mean probability in each bin, NaN in those
            that are empty.
        accuracy: Array of shape `(num_bins,)`, the share of predictions that came true, NaN in
            bins that are empty.
        count: Array of shape `(num_bins,)`, the number of predictions in each bin.
        of_top_class: Boolean, whether the predictions are the most probable classes; otherwise
            they are the positive class.

    Example:

    ```python
    import numpy as np
    from keras_extras import visualization

    rng = np.random.default_rng(0)
    probabilities = rng.uniform(size=1000)
    y_true = rng.uniform(size=1000) < probabilities
    diagram = visualization.ReliabilityDiagram.from_predictions(y_true, probabilities)
    diagram.expected_calibration_error  # 0.03, by chance alone
    figure = diagram.plot()
    ```
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    of_top_class: bool = False

    @classmethod
    def from_predictions(
        cls, y_true: Any, predictions: Any, num_bins: int = 10
    ) -> "ReliabilityDiagram":
        """Computes the diagram of probabilities or of a distribution.

        Args:
            y_true: Array of integer labels of shape `(n,)` or `(n, 1)`, or one-hot labels of
                shape `(n, classes)`.
            predictions: Array of shape `(n,)` or `(n, 1)`, the probabilities of the positive
                class; or of shape `(n, classes)`, those of all; or a `tfd.Distribution`, such as
                `model(x)`, one of `Bernoulli`, `Categorical` and `OneHotCategorical`, also within
                `Independent`, with one entry for each row.
            num_bins: Integer, the number of bins. Defaults to `10`.

        Returns:
            The `ReliabilityDiagram`.

        Raises:
            TypeError: If the distribution is another.
            ValueError: If shapes do not fit, probabilities do not lie in [0, 1] or do not sum to
                1, or labels are no classes.
        """
        num_bins = check_integer("num_bins", num_bins)
        probabilities = class_probabilities(predictions)
        of_top_class = probabilities.ndim == 2
        classes = probabilities.shape[1] if of_top_class else 2
        labels = class_labels(y_true, len(probabilities), classes)
        predicted = np.argmax(probabilities, axis=1) if of_top_class else 1
        if of_top_class:
            probabilities = np.max(probabilities, axis=1)
        edges = np.linspace(0.0, 1.0, num_bins + 1)
        index = np.digitize(probabilities, edges[1:-1], right=True)
        count = np.bincount(index, minlength=num_bins)
        filled = np.where(count, count, np.nan)
        return cls(
            edges=edges,
            confidence=np.bincount(index, probabilities, num_bins) / filled,
            accuracy=np.bincount(index, labels == predicted, num_bins) / filled,
            count=count,
            of_top_class=of_top_class,
        )

    @property
    def expected_calibration_error(self) -> float:
        """Mean over all predictions of the distance of accuracy and confidence in their bin."""
        distance = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(distance * self.count) / np.sum(self.count))

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of Wilson's interval of one standard error around `accuracy`.

        Unlike the standard error itself it has a width also where the accuracy is 0 or 1.
        """
        count = np.where(self.count, self.count, np.nan)
        middle = self.accuracy + 1 / (2 * count)
        half_width = np.sqrt(self.accuracy * (1 - self.accuracy) / count + 1 / (4 * count**2))
        return (middle - half_width) / (1 + 1 / count), (middle + half_width) / (1 + 1 / count)

    def plot(self, ax: Any = None) -> Any:
        """Draws accuracy against confidence, the diagonal, and below it the counts of the bins.

        Args:
            ax: Matplotlib axes to draw on, with room below for the counts; a new figure
                without. Defaults to `None`.

        Returns:
            The matplotlib Figure.
        """
        ax = make_axes(ax, 5, 6)
        ax.plot([0, 1], [0, 1], color="0.4", linewidth=1, linestyle="--", label="calibrated")
        lower, upper = self.interval
        ax.errorbar(
            self.confidence,
            self.accuracy,
            # Rounding may leave an end beyond the accuracy of 0 or 1.
            yerr=np.maximum([self.accuracy - lower, upper - self.accuracy], 0.0),
            color=COLORS[0],
            marker="o",
            markersize=5,
            linewidth=1.5,
            elinewidth=1.2,
            capsize=2.5,
            clip_on=False,
            zorder=3,
            label=f"observed, calibration error {self.expected_calibration_error:.3f}",
        )
        accuracy, confidence = (
            ("accuracy", "probability of the predicted class")
            if self.of_top_class
            else ("observed share of positives", "predicted probability of the positive class")
        )
        ax.set(ylabel=accuracy, xlim=(0, 1), ylim=(0, 1))
        ax.tick_params(labelbottom=False)
        ax.legend(frameon=False, loc="upper left")
        self._plot_counts(ax.inset_axes([0, -0.26, 1, 0.21], sharex=ax), confidence)
        return ax.figure

    def _plot_counts(self, ax, xlabel):
        style_axes(ax)
        style = {"align": "edge", "color": COLORS[5], "edgecolor": "white", "linewidth": 1}
        ax.bar(self.edges[:-1], self.count, np.diff(self.edges), **style)
        ax.set(xlabel=xlabel, ylabel="count")
        ax.locator_params(axis="y", nbins=4, integer=True)
