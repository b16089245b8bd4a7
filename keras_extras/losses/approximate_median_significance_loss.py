"""ApproximateMedianSignificanceLoss: what a search for new physics is after, as a loss."""

from typing import Any

from keras import ops

from keras_extras._core.checks import check_number
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras._core.significance import REFERENCES, approximate_median_significance
from keras_extras.losses.batch_loss import BatchLoss


@serializable
@fill_docstring(references=REFERENCES)
class ApproximateMedianSignificanceLoss(BatchLoss):
    """Minus the approximate median significance (AMS) of the events that a classifier selects.

    An event is selected if its prediction is greater than `threshold`. With `s` and `b` the sums
    of the weights of the selected signal and background events of a batch, and `b_r` the
    regularization,

    ```
    loss = -sqrt(2 * ((s + b + b_r) * log(1 + s / (b + b_r)) - s))
    ```

    The weights are the `sample_weight` of `fit`; without them every event counts as one. The
    significance grows with their sum, and a batch is only a part of the events: give the sums over
    all events as `signal_total` and `background_total`, and the weights of each class of a batch
    are scaled to them. Then only their ratios within a class matter, batches of any size have the
    significance of all events as their goal, and `b_r` has its meaning. Batches should be large,
    or hold all events: the square root makes the significance of few events too optimistic.

    The loss is constant between steps, where an event crosses the threshold. It has no gradient,
    and is made for `keras_extras.optimizers.MonteCarloOptimizer`, whose `sigma` must be large
    enough that some events cross the threshold in each candidate. A batch of which nothing is
    selected, or that has no signal, has a loss of 0. A prediction that is NaN makes it NaN, so
    that an optimizer leaves such weights out.

    `evaluate` and `fit` report the mean over batches. The significance of all events is the
    metric `keras_extras.metrics.ApproximateMedianSignificance`.

    {references}

    Args:
        threshold: Float. Events with a greater prediction are selected. Defaults to `0.5`.
        regularization: Float of at least 0, the term `b_r` added to the background, in the units
            of the weights. Defaults to `10.0`.
        signal_total: Positive float, the sum of the weights of all signal events, to which those
            of each batch are scaled; `None` leaves weights as they are. Defaults to `None`.
        background_total: Positive float, the same of the background. Give both or neither.
            Defaults to `None`.
        name: String name of the loss. Defaults to `"ams_loss"`.
        dtype: The dtype of the loss; `None` means `keras.config.floatx()`. Defaults to `None`.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If one is out of range, if only one of the totals is given, or, when called,
            if an input holds more than one value for each event.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 4)).astype("float32")
    y = (x[:, 0] + rng.normal(size=256) > 1).astype("float32")
    weights = np.where(y == 1, 0.1, 10.0)

    loss = keras_extras.losses.ApproximateMedianSignificanceLoss(
        signal_total=weights[y == 1].sum(), background_total=weights[y == 0].sum()
    )
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras_extras.optimizers.MonteCarloOptimizer(), loss)
    model.fit(x, y, sample_weight=weights, batch_size=128, epochs=2, verbose=0)
    ```
    """

    def __init__(
        self,
        threshold: float = 0.5,
        regularization: float = 10.0,
        signal_total: float | None = None,
        background_total: float | None = None,
        name: str = "ams_loss",
        dtype: Any = None,
    ):
        super().__init__(name, dtype, single_column=True)
        self.threshold = check_number("threshold", threshold)
        self.regularization = check_number("regularization", regularization, at_least=0.0)
        if (signal_total is None) != (background_total is None):
            raise ValueError(
                "Give both `signal_total` and `background_total`, or neither. Received: "
                f"signal_total={signal_total!r}, background_total={background_total!r}"
            )
        if signal_total is not None:
            signal_total = check_number("signal_total", signal_total, above=0.0)
            background_total = check_number("background_total", background_total, above=0.0)
        self.signal_total = signal_total
        self.background_total = background_total

    def score(self, y_true: Any, y_pred: Any, weights: Any) -> Any:
        """Returns minus the significance.

        Args:
            y_true: Tensor of labels of shape `(n, 1)`, 1 for signal and 0 for background.
            y_pred: Tensor of predictions of shape `(n, 1)`.
            weights: Tensor of shape `(n, 1)`.
        """
        selected = y_pred > self.threshold
        is_signal = y_true > 0.5
        signal = _sum_selected(ops.where(is_signal, weights, 0.0), selected, self.signal_total)
        background = _sum_selected(
            ops.where(is_signal, 0.0, weights), selected, self.background_total
        )
        return -approximate_median_significance(signal, background, self.regularization)

    def get_config(self) -> dict[str, Any]:
        names = ("threshold", "regularization", "signal_total", "background_total")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _sum_selected(weights, selected, total):
    of_selected = ops.sum(ops.where(selected, weights, 0.0))
    if total is None:
        return of_selected
    return total * ops.divide_no_nan(of_selected, ops.sum(weights))
