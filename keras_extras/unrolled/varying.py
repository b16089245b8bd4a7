"""PerStep and PerWeight: hyperparameters with one value for each step or each weight."""

from dataclasses import dataclass

import keras
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
    from keras_extras import unrolled

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    training = unrolled.UnrolledTraining(
        model, "sgd", "mse", steps=3, hyperparameters={"learning_rate": unrolled.PerStep(0.1)}
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


@dataclass(frozen=True)
class PerWeight:
    """A hyperparameter of `UnrolledTraining` with one value for each entry of the weights.

    All are equal at the start. Every variable that the pattern matches gets an array of the
    variable's shape and name.

    Args:
        value: Float, where all entries start.

    Example:

    ```python
    import keras
    from keras_extras import unrolled

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="linear")
    training = unrolled.UnrolledTraining(
        model, "sgd", "mse", steps=3, hyperparameters={"l2/*": unrolled.PerWeight(1e-3)}
    )
    list(training.hyperparameters)  # ["l2/linear/dense/kernel", "l2/linear/dense/bias"]
    ```
    """

    value: float

    def __post_init__(self):
        check_number("value", self.value)

    def expand(self, variable: keras.Variable) -> np.ndarray:
        """Returns the values of all entries of a variable.

        Args:
            variable: A Keras variable.
        """
        return np.full(tuple(variable.shape), self.value, "float64")
