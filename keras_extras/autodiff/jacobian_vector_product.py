"""jacobian_vector_product: how a model's outputs change along a direction."""

from typing import Any

import keras

from keras_extras._core import differentiation
from keras_extras._core.docstrings import fill_docstring
from keras_extras.autodiff.arguments import DATA, RAISES_OF_OUTPUTS, TRAINING, WRT
from keras_extras.autodiff.data import Data
from keras_extras.autodiff.differentiated_model import DifferentiatedModel
from keras_extras.autodiff.second_derivatives import check_second_derivatives


@fill_docstring(raises=RAISES_OF_OUTPUTS, data=DATA, wrt=WRT, training=TRAINING)
def jacobian_vector_product(
    model: keras.Model,
    x: Any,
    vector: Any,
    *,
    wrt: str | int = "weights",
    training: bool = False,
) -> Any:
    """Returns the derivative of a model's outputs along a direction, by forward mode.

    ```
    J v = d/dt f(w + t v) at t = 0,  f = the outputs for all rows
    ```

    It takes the time of two or three predictions, whatever the number of weights and outputs.
    Distributions count as the tensors that they convert to. What is held fixed is as in `gradient`.

    Args:
        {data}
        vector: The direction: of weights, a list of arrays aligned with
            `model.trainable_variables`; of inputs, a structure like `x`; of both, a
            `WeightsAndInputs`.
        {wrt}
        {training}

    Returns:
        A structure like the outputs of the model.

    {raises}

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import autodiff

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh")])
    x = np.ones((8, 3))
    autodiff.jacobian_vector_product(model, x, np.ones((8, 3)), wrt="inputs")  # shape (8, 2)
    ```
    """
    function = DifferentiatedModel(model, Data(x), wrt=wrt, training=training, needs_loss=False)
    check_second_derivatives(function)
    _, product = differentiation.jacobian_vector_product(
        lambda values: function.outputs(values, function.data),
        function.values,
        function.unpack(vector),
    )
    return function.pack_outputs(product)
