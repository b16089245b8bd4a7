"""StopWhenConverged: ends training when noise is all that moves the loss."""

import collections
import math
import statistics
import warnings
from typing import Any

import keras

from keras_extras._core.checks import check_integer, check_number
from keras_extras._core.optimizers import optimizer_of


class StopWhenConverged(keras.callbacks.Callback):
    """Stops training when the loss no longer falls by more than its own noise.

    With the means m and variances v of the monitored quantity in the last `window` epochs and in
    as many before them, training stops as soon as

    ```
    (m_before - m_last) / sqrt((v_before + v_last) / window) < z_score
    ```

    or the relative change `(m_before - m_last) / |m_before|` is below `min_relative_change`.
    Unlike patience on the best value, it does not wait for lucky batches: the losses of a search by
    sampling are noisy. It works with every optimizer; an optimizer that detects that it has
    `converged`, such as `LBFGS`, stops training at once. The idea of stopping by a z-score is that
    of [KernelML](https://github.com/Freedomtowin/kernelml).

    Args:
        z_score: Float, how many standard errors of the difference the loss must fall by to go on.
            0 stops when it falls no more at all. Defaults to `1.0`.
        window: Integer of at least 2, epochs in each of the two windows. Defaults to `10`.
        min_relative_change: Float, by what share the mean must fall to go on.
            Defaults to `0.0`.
        monitor: String, the quantity to monitor, which is to fall. Defaults to `"loss"`.
        verbose: Integer, 1 to say when it stops training. Defaults to `0`.

    Attributes:
        stopped_epoch: The epoch after which training was stopped, counted from 0; `None` if it
            was not.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If an argument is out of range; in `fit`, if the logs have no such quantity.

    Warns:
        UserWarning: If `monitor` is a quantity of validation and `fit` never validated.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    x = np.linspace(-1.0, 1.0, 64)[:, None]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras_extras.optimizers.MonteCarloOptimizer(0.05), "mse")
    converged = keras_extras.callbacks.StopWhenConverged(window=5)
    model.fit(x, 2.0 * x, epochs=300, callbacks=[converged], verbose=0)
    ```
    """

    def __init__(
        self,
        z_score: float = 1.0,
        window: int = 10,
        min_relative_change: float = 0.0,
        monitor: str = "loss",
        verbose: int = 0,
    ):
        super().__init__()
        self.z_score = check_number("z_score", z_score, at_least=0.0)
        self.window = check_integer("window", window, minimum=2)
        self.min_relative_change = check_number(
            "min_relative_change", min_relative_change, at_least=0.0
        )
        self.monitor = monitor
        self.verbose = verbose
        self.stopped_epoch: int | None = None
        self._values: collections.deque[float] = collections.deque(maxlen=2 * self.window)
        self._logged: set[str] = set()

    def on_train_begin(self, logs: Any = None) -> None:
        self.stopped_epoch = None
        self._values.clear()
        self._logged = set()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        self._logged.update(logs)
        if self.monitor in logs:
            self._values.append(float(logs[self.monitor]))
        elif not self.monitor.startswith("val_"):  # Validation may be for some epochs only.
            self._raise_not_logged()
        if self._optimizer_has_converged() or self._has_converged():
            self.stopped_epoch = epoch
            self.model.stop_training = True
            if self.verbose:
                print(f"Epoch {epoch + 1}: {self.monitor} has converged")

    def on_train_end(self, logs: Any = None) -> None:
        if not self._logged or self._values:
            return
        if any(name.startswith("val_") for name in self._logged):
            self._raise_not_logged()
        warnings.warn(
            f"StopWhenConverged watched {self.monitor!r}, but `fit` never validated: give it "
            "`validation_data`, and more epochs than `validation_freq`.",
            stacklevel=2,
        )

    def _raise_not_logged(self):
        logged = ", ".join(map(repr, sorted(self._logged)))
        raise ValueError(
            f"`monitor` must be one of {logged}, which the model logs. "
            f"Received: monitor={self.monitor!r}"
        )

    def _optimizer_has_converged(self):
        return getattr(optimizer_of(self.model), "converged", False)

    def _has_converged(self):
        values = list(self._values)
        if len(values) < 2 * self.window or not all(map(math.isfinite, values)):
            return False
        before, last = values[: self.window], values[self.window :]
        fall = statistics.fmean(before) - statistics.fmean(last)
        variances = statistics.variance(before) + statistics.variance(last)
        is_noise = fall <= self.z_score * math.sqrt(variances / self.window)
        is_small = fall < self.min_relative_change * abs(statistics.fmean(before))
        return is_noise or is_small
