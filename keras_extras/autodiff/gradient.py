"""gradient: first derivatives of a model's loss."""

import warnings
from typing import Any

import keras

from keras_extras._core.differentiation import value_and_gradients
from keras_extras._core.docstrings import fill_docstring
from keras_extras.autodiff.arguments import DATA, LOSS, WRT
from keras_extras.autodiff.batches import sum_over_batches
from keras_extras.autodiff.blocking_layers import blocking_layers
from keras_extras.autodiff.data import Data
from keras_extras.autodiff.dense_derivatives import zeros_where_none
from keras_extras.autodiff.differentiated_model import DifferentiatedModel


@fill_docstring(data=DATA, loss=LOSS, wrt=WRT)
def gradient(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    loss: Any = None,
    penalties: bool = True,
    wrt: str | int = "weights",
    sample_weight: Any = None,
    training: bool = False,
    batch_size: int | None = None,
) -> Any:
    """Returns the gradient of a model's loss over data, by reverse mode.

    ```
    g = d L / d w,  L = the loss of all rows, with regularizers and what layers add
    ```

    The loss is the one that `fit` minimizes, of all rows together. Moving statistics and the states
    of random layers are held fixed: they have no derivative, and the model keeps those it had.

    Args:
        {data}
        y: Targets; `None` if the loss needs none. Defaults to `None`.
        {loss}
        {wrt}
        sample_weight: Weights of the rows, as in `fit`. Defaults to `None`.
        training: Boolean. With `True`, dropout drops, by the random numbers that the next call of
            the model would see, and batch normalization uses the statistics of the batch, through
            which derivatives flow. Defaults to `False`.
        batch_size: Integer, rows to compute at once; `None` for all. The result is that of all
            rows together: of losses that are means over rows it is the mean over batches, and
            other losses are an error. Defaults to `None`.

    Returns:
        Of weights, a list of dense tensors aligned with `model.trainable_variables`; of inputs, a
        structure like `x`; of both, a `WeightsAndInputs`. It is zero for weights that the loss does
        not depend on.

    Raises:
        TypeError: If `model` is no Keras model or layer.
        ValueError: If there is no loss, inputs to differentiate are integers, rows do not match,
            or nothing has a gradient, because a layer in between has none. If only some weights
            have none, a warning names them.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import autodiff

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((8, 3)), np.zeros((8, 1))
    for g, variable in zip(autodiff.gradient(model, x, y), model.trainable_variables):
        variable.assign_sub(0.1 * g)  # a step of gradient descent
    ```
    """
    function = DifferentiatedModel(
        model, Data(x, y, sample_weight), loss, wrt, training, penalties=penalties
    )

    unconnected = set()

    def of_batch(values, data):
        gradients = value_and_gradients(lambda values: function.loss(values, data), values)[1]
        unconnected.update(n for n, part in zip(function.names, gradients) if part is None)
        return zeros_where_none(gradients, values)

    gradients = sum_over_batches(function, of_batch, batch_size)
    if unconnected:
        _report(unconnected, function)
    return function.pack(gradients)


def _report(unconnected, function):
    names = [name for name in function.names if name in unconnected]
    message = (
        f"The loss has no gradient with respect to {', '.join(names)}: it does not depend on "
        "them, or only through functions without a gradient, such as `round` and `argmax`."
    )
    blocking = blocking_layers(function.model, function.data.x, function.training)
    if blocking:
        message += f" Layers without a gradient: {', '.join(blocking)}."
    if len(names) == len(function.names):
        raise ValueError(
            f"{message} `keras_extras.optimizers.MonteCarloOptimizer` trains without gradients."
        )
    warnings.warn(f"{message} It is taken as zero.", stacklevel=3)
