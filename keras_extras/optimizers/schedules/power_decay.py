"""PowerDecay: a learning rate to a power that grows with the epochs."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_integer, check_number, check_share
from keras_extras._core.registration import serializable


@serializable
class PowerDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Raises the initial learning rate to a power that grows with every epoch.

    ```
    rate = initial_learning_rate ** (1 + epoch * epsilon),  epoch = floor(step / steps_per_epoch)
    ```

    Each epoch multiplies the rate by `initial_learning_rate ** epsilon`, so a rate that starts
    lower also falls faster: with `epsilon=0.05`, 0.1 falls by 11 % an epoch and 0.001 by 29 %.

    Args:
        initial_learning_rate: Float in (0, 1), the learning rate of the first epoch. A rate of 1
            or more would not fall.
        epsilon: Float of at least 0, what each epoch adds to the power.
        steps_per_epoch: Integer, the updates in an epoch: the number of batches.
        name: String. Defaults to `"power_decay"`.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If an argument is out of range.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import optimizers

    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    rate = optimizers.schedules.PowerDecay(0.1, epsilon=0.05, steps_per_epoch=256 // 32)

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    model.fit(x, x[:, :1], batch_size=32, epochs=2, verbose=0)
    ```
    """

    def __init__(
        self,
        initial_learning_rate: float,
        epsilon: float,
        steps_per_epoch: int,
        name: str = "power_decay",
    ):
        super().__init__()
        self.initial_learning_rate = check_share("initial_learning_rate", initial_learning_rate)
        self.epsilon = check_number("epsilon", epsilon, at_least=0)
        self.steps_per_epoch = check_integer("steps_per_epoch", steps_per_epoch)
        self.name = name

    def __call__(self, step: Any) -> Any:
        epoch = ops.cast(ops.floor_divide(step, self.steps_per_epoch), "float32")
        return ops.power(self.initial_learning_rate, 1 + epoch * self.epsilon)

    def get_config(self) -> dict[str, Any]:
        names = ("initial_learning_rate", "epsilon", "steps_per_epoch", "name")
        return {name: getattr(self, name) for name in names}
