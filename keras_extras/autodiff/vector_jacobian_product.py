"""vector_jacobian_product: the gradient of a weighted sum of a model's outputs."""

from typing import Any

import keras

from keras_extras._core.docstrings import fill_docstring
from keras_extras.autodiff.arguments import (
    DATA,
    IN_FORM_OF_GRADIENT,
    RAISES_OF_OUTPUTS,
    TRAINING,
    WRT,
)
from keras_extras.autodiff.data import Data
from keras_extras.autodiff.dense_derivatives import pullback
from keras_extras.autodiff.differentiated_model import DifferentiatedModel, as_vector


@fill_docstring(
    raises=RAISES_OF_OUTPUTS,
    data=DATA,
    wrt=WRT,
    training=TRAINING,
    in_form_of_gradient=IN_FORM_OF_GRADIENT,
)
def vector_jacobian_product(
    model: keras.Model,
    x: Any,
    vector: Any,
    *,
    wrt: str | int = "weights",
    training: bool = False,
) -> Any:
    """Returns the gradient of the sum of a model's outputs times a vector, by reverse mode.

    ```
    v^T J = d/dw sum_i v_i f_i(w),  f = the outputs for all rows
    ```

    It takes the time of one gradient, whatever the number of weights and outputs. Distributions
    count as the tensors that they convert to. What is held fixed is as in `gradient`.

    Args:
        {data}
        vector: A structure of arrays like the outputs of the model for `x`.
        {wrt}
        {training}

    Returns:
        {in_form_of_gradient}

    {raises}

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import autodiff

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh")])
    x = np.ones((8, 3))
    autodiff.vector_jacobian_product(model, x, np.ones((8, 2)), wrt="inputs")  # shape (8, 3)
    ```
    """
    function = DifferentiatedModel(model, Data(x), wrt=wrt, training=training, needs_loss=False)
    vector = keras.tree.flatten(vector)

    def outputs(values):
        parts = function.outputs(values, function.data)
        if len(parts) != len(vector):
            raise ValueError(
                f"`vector` must have {len(parts)} arrays, one for each output of the model. "
                f"Received: {len(vector)} arrays"
            )
        for number, (given, part) in enumerate(zip(vector, parts)):
            as_vector(given, part, f"output {number}")
        return parts

    return function.pack(pullback(outputs, function.values, vector))
