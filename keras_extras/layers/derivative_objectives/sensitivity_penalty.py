"""SensitivityPenalty: trains a network not to change along directions in input space."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_number
from keras_extras._core.differentiation import jacobian_vector_products
from keras_extras._core.registration import serializable
from keras_extras.layers.derivative_objectives.derivative_wrapper import (
    DerivativeWrapper,
    sums_of_squares,
)
from keras_extras.layers.derivative_objectives.input_directions import (
    check_directions,
    directions_at,
    directions_config,
)


@serializable
class SensitivityPenalty(DerivativeWrapper):
    r"""Wraps a network and penalizes how its output changes along given input directions.

    ```
    loss = weight * mean_i sum_k ||J(x_i) t_k(x_i)||^2
    ```

    with J the Jacobian of the network f, so that `J(x) t = d f(x + a t) / da` at `a = 0`. The mean
    is over the rows of the batch, the sum over the directions. A network that is shown in this way
    which changes to ignore (a small rotation of an image, a shift of an energy scale, a nuisance
    parameter) becomes invariant to them from fewer rows: tangent propagation.

    A Keras loss sees only `y_true` and `y_pred`; this objective differentiates the network, and so
    stands around it, as a layer. The output is that of the network, which is `.layer`, and the
    penalty is added to whatever loss is compiled, in `evaluate` as in `fit`, as Keras does with
    regularizers. The derivatives are exact, and the network is called once.

    Args:
        layer: A `keras.layers.Layer` or a whole model, of tensors to one tensor.
        directions: Array of shape `(number of directions, *shape of one input)`, directions that
            are the same for every row; or a function from the batch of inputs to a tensor of the
            same shape, a direction for each row, or to a list of such. For files that load
            safely, decorate it with `keras.saving.register_keras_serializable()`. The length of a
            direction counts: it is the size of the change that matters.
        weight: Float of at least 0 that multiplies the penalty. Defaults to `1.0`.
        wrt: Name or position of one of several inputs, with respect to which to differentiate;
            `None` for a network of one input. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name`.

    Input shape:
        That of `layer`.

    Output shape:
        That of `layer`.

    Raises:
        TypeError: When called, if the input is not of floats, or the output is not one tensor.
        ValueError: If `directions` or `weight` is not what it must be; when called, if the
            directions do not fit the inputs, or the output is not differentiable.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import layers


    @keras.saving.register_keras_serializable("example")
    def rotation(x):  # of points in the plane about the origin
        return keras.ops.stack([-x[:, 1], x[:, 0]], axis=1)


    x = np.random.default_rng(0).normal(size=(256, 2)).astype("float32")
    y = np.sum(x**2, axis=1, keepdims=True)

    network = keras.Sequential([keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(1)])
    model = keras.Sequential(
        [keras.Input((2,)), layers.SensitivityPenalty(network, rotation, weight=0.1)]
    )
    model.compile("adam", "mse")
    model.fit(x, y, epochs=2, verbose=0)
    network.predict(x, verbose=0)  # the network alone
    ```

    References:
        - Simard, Victorri, LeCun and Denker, 1992, "Tangent Prop: A formalism for specifying
          selected invariances in an adaptive network", NeurIPS 4
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        directions: Any | Callable[[Any], Any],
        weight: float = 1.0,
        wrt: str | int | None = None,
        **kwargs: Any,
    ):
        super().__init__(layer, wrt, **kwargs)
        self.directions = check_directions(directions)
        self.weight = check_number("weight", weight, at_least=0)

    def call(self, inputs: Any) -> Any:
        differentiated = self.differentiated(inputs, needs_one=True)
        vectors = directions_at(self.directions, differentiated.value)
        output, changes = self.differentiate(jacobian_vector_products, differentiated, vectors)
        squares = sum(sums_of_squares(change) for change in changes)
        self.add_loss(self.weight * ops.mean(squares))
        return output

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "directions": directions_config(self.directions),
            "weight": self.weight,
        }
