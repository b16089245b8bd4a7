"""SobolevTraining: gives a network its derivatives as a second output, to train them with."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_extras._core.differentiation import jacobian_vector_products, vector_jacobian_products
from keras_extras._core.registration import serializable
from keras_extras.layers.derivative_objectives.derivative_wrapper import (
    DerivativeWrapper,
    known_shape,
    unit_vectors,
)
from keras_extras.layers.derivative_objectives.input_directions import (
    check_directions,
    directions_at,
    directions_config,
)


@serializable
class SobolevTraining(DerivativeWrapper):
    r"""Wraps a network and returns its value together with its derivative, each to be trained.

    Where the derivatives of the function to be learned are known (forces beside energies, slopes
    beside heights, the gradients of a teacher), they are targets like its values, and the network
    learns from fewer rows:

    ```
    loss = sum_i l(f(x_i), y_i) + w * l'(Df(x_i), Dy_i)
    ```

    The output is a dict of two tensors, `"value"` and `"derivative"`, because that is how Keras
    has several targets: each gets its own stock loss, metrics and sample weights, `loss_weights`
    balances them, and the logs show both. An added loss would have had to be given the derivatives
    as inputs. Predict with the network itself, which is `.layer`.

    Args:
        layer: A `keras.layers.Layer` or a whole model, of tensors to one tensor.
        directions: What to differentiate along. `None`: every input, which gives the gradient, by
            one backward pass for each output. Array of shape `(number of directions, *shape of
            one input)`, or a function from the batch of inputs to a tensor of the same shape or
            to a list of such: the derivatives along these, as in `SensitivityPenalty`, cheaper
            where there are many outputs. Defaults to `None`.
        wrt: Name or position of one of several inputs, with respect to which to differentiate;
            `None` for
            a network of one input. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name`.

    Input shape:
        That of `layer`, called (batch, *inputs).

    Output shape:
        Dict. `"value"`: that of `layer`, called (batch, *outputs), whose sizes but the batch's
        must be known. `"derivative"`: (batch, *outputs, *inputs) for the gradient and
        (batch, number of directions, *outputs) along several directions, without *outputs if
        there is one output.

    Raises:
        TypeError: When called, if the input is not of floats, or the output is not one tensor.
        ValueError: If `directions` is not what it must be; when called, if the directions do not
            fit the inputs, or the output is not differentiable.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import layers

    x = np.linspace(-3, 3, 20, dtype="float32")[:, None]

    network = keras.Sequential([keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(1)])
    inputs = keras.Input((1,))
    model = keras.Model(inputs, layers.SobolevTraining(network)(inputs))
    model.compile(
        "adam",
        loss={"value": "mse", "derivative": "mse"},
        loss_weights={"value": 1.0, "derivative": 0.1},
    )
    model.fit(x, {"value": np.sin(x), "derivative": np.cos(x)}, epochs=2, verbose=0)
    network.predict(x, verbose=0)
    ```

    References:
        - [Czarnecki et al., 2017, "Sobolev Training for Neural Networks"](
          https://arxiv.org/abs/1706.04859)
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        directions: Any | Callable[[Any], Any] | None = None,
        wrt: str | int | None = None,
        **kwargs: Any,
    ):
        super().__init__(layer, wrt, **kwargs)
        self.directions = None if directions is None else check_directions(directions)

    def call(self, inputs: Any) -> dict[str, Any]:
        by = self.differentiated(inputs, needs_one=True)
        if self.directions is None:
            known_shape(by.value, "input")
            value, derivatives = self.differentiate(vector_jacobian_products, by, unit_vectors)
        else:
            vectors = directions_at(self.directions, by.value)
            value, derivatives = self.differentiate(jacobian_vector_products, by, vectors)
        derivative = ops.stack(derivatives, axis=1)
        outputs, entry = tuple(value.shape[1:]), tuple(derivative.shape[2:])
        if self.directions is None:
            outputs = () if math.prod(outputs) == 1 else outputs
            derivative = ops.reshape(derivative, (-1, *outputs, *entry))
        elif math.prod(outputs) == 1:
            derivative = ops.reshape(derivative, (-1, len(derivatives)))
        return {"value": value, "derivative": derivative}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "directions": directions_config(self.directions)}
