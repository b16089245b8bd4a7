"""ZeroOneLoss: the share of wrong decisions."""

from typing import Any

from keras import ops

from keras_extras._core.checks import check_number
from keras_extras._core.registration import serializable
from keras_extras._core.valid_values import require_values
from keras_extras.losses.piecewise_constant import PiecewiseConstantLoss


@serializable
class ZeroOneLoss(PiecewiseConstantLoss):
    """One for each row that is decided wrongly, zero for the others.

    ```
    loss = [decision != y_true]
    ```

    Its mean is one minus the accuracy. Of several columns, the one with the greatest prediction is
    decided for; of one column, the positive class if the prediction is greater than `threshold`.

    The loss is constant between steps, where a row is decided otherwise. It has no gradient, and
    is made for `keras_extras.optimizers.MonteCarloOptimizer`. A prediction that is NaN makes the
    loss of its row NaN, so that an optimizer leaves such weights out.

    Args:
        threshold: Float. With one column, greater predictions decide for the positive class: 0.5
            for probabilities, 0 for logits. Not used with several columns. Defaults to `0.5`.
        name: String name of the loss. Defaults to `"zero_one"`.
        reduction: Type of reduction over the batch, as of other Keras losses. Defaults to
            `"sum_over_batch_size"`.
        dtype: The dtype of the loss; `None` means `keras.config.floatx()`. Defaults to `None`.

    Raises:
        TypeError: If `threshold` is not a number.
        ValueError: When called, if the labels are neither classes nor one-hot columns of the
            predictions.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    y = np.argmax(x[:, :3], axis=-1)

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    optimizer = keras_extras.optimizers.MonteCarloOptimizer()
    model.compile(optimizer, keras_extras.losses.ZeroOneLoss(), metrics=["accuracy"])
    model.fit(x, y, batch_size=128, epochs=2, verbose=0)
    ```
    """

    def __init__(
        self,
        threshold: float = 0.5,
        name: str = "zero_one",
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.threshold = check_number("threshold", threshold)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if len(y_pred.shape) == 0:
            raise ValueError("`y_pred` must have rows. Received: y_pred.shape=()")
        if len(y_pred.shape) == 1:
            y_pred = y_pred[:, None]
        labels = self._labels(y_true, y_pred)
        if y_pred.shape[-1] == 1:
            decisions = ops.cast(y_pred[..., 0] > self.threshold, labels.dtype)
        else:
            decisions = ops.cast(ops.argmax(y_pred, axis=-1), labels.dtype)
        losses = ops.cast(ops.not_equal(decisions, labels), self.dtype)
        losses = ops.where(ops.any(ops.isnan(y_pred), axis=-1), float("nan"), losses)
        classes = max(y_pred.shape[-1], 2)
        is_class = ops.logical_and(labels >= 0, labels < classes)
        is_class = ops.logical_and(is_class, labels == ops.floor(labels))
        return require_values(
            is_class,
            losses,
            f"ZeroOneLoss needs classes `y_true` from 0 to {classes - 1}.",
            y_true=labels,
        )

    def _labels(self, y_true, y_pred):
        """Classes as floats, so that what is not a whole number shows."""
        columns, leading = y_pred.shape[-1], tuple(y_pred.shape[:-1])
        shape = tuple(y_true.shape)
        if _fits(shape, leading):
            classes = y_true
        elif _fits(shape, (*leading, 1)):
            classes = y_true[..., 0]
        elif _fits(shape, (*leading, columns)):
            return ops.cast(ops.argmax(y_true, axis=-1), "float32")
        else:
            raise ValueError(
                "ZeroOneLoss needs one class for each row, or, of several columns, one-hot labels: "
                f"`y_true` must have shape {leading}, {(*leading, 1)} or {(*leading, columns)}. "
                f"Received: y_true.shape={shape}, y_pred.shape={tuple(y_pred.shape)}"
            )
        return ops.cast(classes, "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold, "dtype": self.dtype}


def _fits(actual, expected):
    pairs = zip(actual, expected)
    return len(actual) == len(expected) and all(a == e or None in (a, e) for a, e in pairs)
