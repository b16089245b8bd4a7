"""AUCLoss: how often a classifier ranks a negative row above a positive one."""

from typing import Any

from keras import ops

from keras_extras._core.registration import serializable
from keras_extras.losses.batch_loss import BatchLoss


@serializable
class AUCLoss(BatchLoss):
    """One minus the area under the ROC curve of a batch.

    ```
    loss = 1 - sum over i, j of w_i w_j ([p_i > p_j] + [p_i = p_j] / 2) / sum over i, j of w_i w_j
    ```

    with i over the positive rows, j over the negative ones, predictions p and weights w: the
    Mann-Whitney statistic, the share of pairs in the wrong order. It is exact, without the bins
    of `keras.metrics.AUC`, and takes the time of a sort. Only the order of the predictions
    matters, so that they may be probabilities as well as logits.

    The loss is constant between steps, where two rows change places. It has no gradient, and is
    made for `keras_extras.optimizers.MonteCarloOptimizer`. Ties count half, so that a batch of
    equal predictions has a loss of 0.5, as has one in which a class has no weight. A prediction
    that is NaN makes it NaN, so that an optimizer leaves such weights out.

    References:
        Hanley and McNeil (1982), "The meaning and use of the area under a receiver operating
        characteristic (ROC) curve".

    Args:
        name: String name of the loss. Defaults to `"auc_loss"`.
        dtype: The dtype of the loss; `None` means `keras.config.floatx()`. Defaults to `None`.

    Raises:
        ValueError: When called, if an input holds more than one value for each row.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    y = (x[:, 0] > 1).astype("float32")

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    optimizer = keras_extras.optimizers.MonteCarloOptimizer()
    model.compile(optimizer, keras_extras.losses.AUCLoss())
    model.fit(x, y, batch_size=128, epochs=2, verbose=0)
    ```
    """

    def __init__(self, name: str = "auc_loss", dtype: Any = None):
        super().__init__(name, dtype, single_column=True)

    def score(self, y_true: Any, y_pred: Any, weights: Any) -> Any:
        """Returns the share of pairs in the wrong order.

        Args:
            y_true: Tensor of labels of shape `(n, 1)`, 1 for positive and 0 for negative rows.
            y_pred: Tensor of predictions of shape `(n, 1)`.
            weights: Tensor of shape `(n, 1)`.
        """
        order = ops.argsort(y_pred[:, 0])
        predictions = ops.take(y_pred[:, 0], order)
        is_positive, weights = (ops.take(v[:, 0], order) for v in (y_true > 0.5, weights))
        differs = ops.cast(predictions[1:] != predictions[:-1], "int32")
        # Rows of equal predictions are one step of the curve.
        step = ops.pad(ops.cumsum(differs), [[1, 0]])

        def share_of_step(weights):
            sums = ops.segment_sum(weights, step, ops.shape(step)[0])
            return ops.divide_no_nan(sums, ops.sum(weights)), ops.sum(weights)

        positive, positives = share_of_step(ops.where(is_positive, weights, 0.0))
        negative, negatives = share_of_step(ops.where(is_positive, 0.0, weights))
        above = 1.0 - ops.cumsum(negative)
        loss = ops.sum(positive * (above + negative / 2))
        return ops.where(ops.logical_and(positives != 0.0, negatives != 0.0), loss, 0.5)
