"""PerStep: a hyperparameter with a value of its own for each step of training."""

from dataclasses import dataclass

import numpy as np

from keras_extras._core.checks import check_integer, check_number


@dataclass(frozen=True)
class PerStep:
    """A hyperparameter of `UnrolledTraining` with one value for each step, equal at the start.

    Args:
        value: Float, where all steps start.

    Example:

    ```python
    import keras
    from keras_extras import autodiff

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    training = autodiff.UnrolledTraining(
        model, "sgd", "mse", steps=3, hyperparameters={"learning_rate": autodiff.PerStep(0.1)}
    )
    training.hyperparameters  # {"learning_rate": array([0.1, 0.1, 0.1])}
    ```
    """

    value: float

    def __post_init__(self):
        check_number("value", self.value)

    def expand(self, steps: int) -> np.ndarray:
        """Returns the values of all steps.

        Args:
            steps: Integer, the number of steps.
        """
        return np.full(check_integer("steps", steps), self.value, "float64")
