"""WeightsAndInputs: what belongs to the weights of a model, and what to its inputs."""

from typing import Any, NamedTuple


class WeightsAndInputs(NamedTuple):
    """Derivatives with respect to weights and inputs, or directions in both: `wrt="both"`.

    Attributes:
        weights: List, one entry for each of `model.trainable_variables`.
        inputs: As the inputs of the model: a tensor, or a structure of tensors.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import autodiff

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    x, y = np.ones((4, 3)), np.zeros((4, 1))
    gradient = autodiff.gradient(model, x, y, loss="mse", wrt="both")
    gradient.weights[0]  # of shape (3, 1), as the kernel
    gradient.inputs  # of shape (4, 3), as x
    ```
    """

    weights: list[Any]
    inputs: Any
