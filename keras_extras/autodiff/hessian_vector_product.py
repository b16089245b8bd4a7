"""hessian_vector_product: second derivatives of a model's loss along a direction."""

from typing import Any

import keras

from keras_extras._core.checks import check_choice
from keras_extras._core.docstrings import fill_docstring
from keras_extras.autodiff.arguments import IN_FORM_OF_GRADIENT, PRODUCT
from keras_extras.autodiff.batches import sum_over_batches
from keras_extras.autodiff.data import Data
from keras_extras.autodiff.dense_derivatives import CURVATURE_MODES, hessian_product
from keras_extras.autodiff.differentiated_model import DifferentiatedModel
from keras_extras.autodiff.second_derivatives import check_second_derivatives


@fill_docstring(product=PRODUCT, in_form_of_gradient=IN_FORM_OF_GRADIENT)
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
        {product}
        mode: `"reverse_over_reverse"` takes the gradient of the gradient's product with the vector;
            `"forward_over_reverse"` differentiates the gradient along the vector by forward mode,
            which in TensorFlow takes more time. Defaults to
            `"reverse_over_reverse"`.

    Returns:
        {in_form_of_gradient}

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
