"""FBetaLoss: one minus the F-beta score of a batch."""

from typing import Any

from keras import ops

from keras_extras._core.checks import check_choice, check_number
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.losses.batch_loss import BatchLoss

# Of the docstrings of this loss and `F1Loss`.
AVERAGE = """
        average: How the scores of several columns become one: `"macro"`, their mean; `"micro"`,
            the score of the counts summed over columns; `"weighted"`, their mean weighted by how
            many rows have the label. Defaults to `"macro"`.
    """
THRESHOLD = """
        threshold: Float. Greater predictions decide for their column, whether they are
            probabilities or logits. `None`: each row decides for the column of its greatest
            prediction. Defaults to `0.5`.
    """
VALUE_ERROR = """
        ValueError: If an argument is out of range, or, when called, if labels and predictions
            differ in shape or there is one column without a `threshold`.
    """


@serializable
@fill_docstring(average=AVERAGE, threshold=THRESHOLD, value_error=VALUE_ERROR)
class FBetaLoss(BatchLoss):
    """One minus the F-beta score, the harmonic mean of precision and recall.

    ```
    loss = 1 - (1 + beta**2) * TP / ((1 + beta**2) * TP + beta**2 * FN + FP)
    ```

    with the summed weights of the true positives, false negatives and false positives of a batch.
    It is the counterpart of `keras.metrics.FBetaScore`, and also takes a single column of
    predictions: those of the positive class.

    The loss is constant between steps, where a row crosses the threshold. It has no gradient, and
    is made for `keras_extras.optimizers.MonteCarloOptimizer`. Where there is neither a label nor
    a decision for a class, its score is 0, as with the metric: batches should hold rows of all
    classes. A prediction that is NaN makes the loss NaN, so that an optimizer leaves such weights
    out.

    References:
        van Rijsbergen (1979), "Information Retrieval", chapter 7.

    Args:
        {average}
        beta: Positive float, how many times as much recall counts as precision. Defaults to `1.0`.
        {threshold}
        name: String name of the loss. Defaults to `"fbeta_loss"`.
        dtype: The dtype of the loss; `None` means `keras.config.floatx()`. Defaults to `None`.

    Raises:
        TypeError: If `beta` or `threshold` is not a number.
        {value_error}

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    y = (x[:, :2] > 1).astype("float32")  # two labels for each row

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    optimizer = keras_extras.optimizers.MonteCarloOptimizer()
    model.compile(optimizer, keras_extras.losses.FBetaLoss(beta=2.0, threshold=0.0))
    model.fit(x, y, batch_size=128, epochs=2, verbose=0)
    ```
    """

    def __init__(
        self,
        average: str = "macro",
        beta: float = 1.0,
        threshold: float | None = 0.5,
        name: str = "fbeta_loss",
        dtype: Any = None,
    ):
        super().__init__(name, dtype, single_column=False)
        self.average = check_choice("average", average, ("macro", "micro", "weighted"))
        self.beta = check_number("beta", beta, above=0.0)
        self.threshold = None if threshold is None else check_number("threshold", threshold)

    def score(self, y_true: Any, y_pred: Any, weights: Any) -> Any:
        """Returns one minus the score.

        Args:
            y_true: Tensor of zeros and ones of shape `(n, columns)`.
            y_pred: Tensor of predictions of the same shape.
            weights: Tensor of shape `(n, 1)`.
        """
        has_label = y_true > 0.5
        is_chosen = self._decisions(y_pred)
        axis = None if self.average == "micro" else 0

        def total(rows):
            return ops.sum(ops.where(rows, weights, 0.0), axis=axis)

        hits = total(ops.logical_and(has_label, is_chosen))
        labeled, chosen = total(has_label), total(is_chosen)
        square = self.beta**2
        # TP + FN is what has the label, and TP + FP what was chosen.
        scores = ops.divide_no_nan((1.0 + square) * hits, square * labeled + chosen)
        if self.average == "weighted":
            return 1.0 - ops.divide_no_nan(ops.sum(scores * labeled), ops.sum(labeled))
        return 1.0 - ops.mean(scores)

    def _decisions(self, y_pred):
        if self.threshold is not None:
            return y_pred > self.threshold
        columns = y_pred.shape[-1]
        if columns == 1:
            raise ValueError(
                f"{type(self).__name__} needs a `threshold` for a single column of predictions, "
                "which is always the greatest of its row. "
                f"Received: threshold=None, y_pred.shape={tuple(y_pred.shape)}"
            )
        return ops.one_hot(ops.argmax(y_pred, axis=-1), columns, dtype="bool")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "average": self.average,
            "beta": self.beta,
            "threshold": self.threshold,
        }
