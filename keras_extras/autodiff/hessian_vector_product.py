"""hessian_vector_product: second derivatives of a model's loss along a direction."""

from typing import Any

import keras

from keras_extras._core.checks import check_choice
from keras_extras.autodiff.batches import sum_over_batches
from keras_extras.autodiff.data import Data
from keras_extras.autodiff.dense_derivatives import CURVATURE_MODES, hessian_product
from keras_extras.autodiff.differentiated_model import DifferentiatedModel
from keras_extras.autodiff.second_derivatives import check_second_derivatives


def hessian_vector_product(
    model: keras.Model,
    x: Any,
    y: Any,
    vector: Any,
    *,
    loss: Any = None,
    penalties: bool = True,
    wrt: str | int = "weights",
    sample_weight: Any = None,
    training: bool = False,
    batch_size: int | None = None,
    mode: str = "reverse_over_reverse",
) -> Any:
    """Returns the product of the Hessian of a model's loss and a vector, without the Hessian.

    ```
    H v = d/dt g(w + t v) at t = 0,  g = the gradient of the loss
    ```

    It takes the time of a few gradients, whatever the number of weights, and is exact. The loss and
    what is held fixed are those of `gradient`.

    References:
        Pearlmutter (1994), "Fast exact multiplication by the Hessian".

    Args:
        model: Keras model or layer.
        x: Inputs, an array or a structure of arrays with one row for each example.
        y: Targets; `None` if the loss needs none.
        vector: The vector that is multiplied, in the form of the result.
        loss: The loss, in any form that `model.compile` takes; `None` for the loss that the model
            was compiled with. Defaults to `None`.
        penalties: Boolean, whether regularizers and losses that layers add count where `loss` is
            given. Defaults to `True`.
        wrt: With respect to what: `"weights"`, those that are trained, `"inputs"`, `"both"`, or one
            of several inputs, by its name or position. Defaults to `"weights"`.
        sample_weight: Weights of the rows, as in `fit`. Defaults to `None`.
        training: Boolean, as in `gradient`. Defaults to `False`.
        batch_size: Integer, rows to compute at once, as in `gradient`; `None` for all. Defaults to
            `None`.
        mode: `"reverse_over_reverse"` takes the gradient of the gradient's product with the vector;
            `"forward_over_reverse"` differentiates the gradient along the vector by forward mode,
            which in TensorFlow takes more time. Defaults to
            `"reverse_over_reverse"`.

    Returns:
        Of weights, a list of tensors aligned with `model.trainable_variables`; of inputs, a
        structure like `x`; of both, a `WeightsAndInputs`.

    Raises:
        TypeError: If `model` is no Keras model or layer.
        ValueError: If `vector` has other shapes, or an argument does not fit, as in `gradient`.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import autodiff

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((8, 3)), np.zeros((8, 1))
    g = autodiff.gradient(model, x, y)
    autodiff.hessian_vector_product(model, x, y, g)  # how the gradient changes along itself
    ```
    """
    check_choice("mode", mode, CURVATURE_MODES)
    function = DifferentiatedModel(
        model, Data(x, y, sample_weight), loss, wrt, training, penalties=penalties
    )
    check_second_derivatives(function)

    def of_batch(values, data, vector):
        return hessian_product(lambda values: function.loss(values, data), values, vector, mode)

    return function.pack(sum_over_batches(function, of_batch, batch_size, function.unpack(vector)))
