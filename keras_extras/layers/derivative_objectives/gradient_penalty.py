"""GradientPenalty: keeps the gradient of a network with respect to its inputs at a norm."""

import math
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_integer, check_number, check_seed
from keras_extras._core.differentiation import vector_jacobian_products
from keras_extras._core.registration import serializable
from keras_extras.layers.derivative_objectives.derivative_wrapper import (
    DerivativeWrapper,
    known_shape,
    sums_of_squares,
    unit_vectors,
)

_SMALLEST_SQUARE = 1e-12


@serializable
class GradientPenalty(DerivativeWrapper):
    r"""Wraps a network and penalizes the norm of its gradient with respect to the inputs.

    ```
    loss = weight * mean_i (||J(x_i)|| - target_norm)^2
    ```

    with J the Jacobian of the outputs with respect to the inputs of a row, for a network of one
    output its gradient, and the norm that of Frobenius, the root of the sum of squares. The mean
    is over the rows of the batch.

    - `target_norm=0` flattens the network around the data, so that it is robust to noise and
      small changes of the inputs: double backpropagation, Jacobian regularization.
    - `target_norm=1` with `weight=10` is the penalty of a WGAN's critic, called on points between
      real and generated rows.

    Rows are taken to be independent of each other, so the network should hold no
    `BatchNormalization`; `LayerNormalization` is fine.

    A Keras loss sees only `y_true` and `y_pred`; this objective differentiates the network, and so
    stands around it, as a layer. The output is that of the network, which is `.layer`, and the
    penalty is added to whatever loss is compiled, in `evaluate` as in `fit`, as Keras does with
    regularizers.

    Args:
        layer: A `keras.layers.Layer` or a whole model, of tensors to one tensor.
        weight: Float of at least 0 that multiplies the penalty. Defaults to `1.0`.
        target_norm: Float of at least 0, the norm that costs nothing. Defaults to `0.0`.
        num_projections: Integer or `None`. `None` computes the norm exactly, by one backward pass
            for each output. With many outputs and a target of 0, an integer estimates its square
            without bias from so many random combinations of the outputs (Hoffman et al., 2019);
            1 is enough to train with. Defaults to `None`.
        seed: Integer seed of the random combinations, or `None`. Defaults to `None`.
        wrt: Name or position of one of several inputs, with respect to which to differentiate;
            `None` for
            all inputs of floats together. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name`.

    Input shape:
        That of `layer`.

    Output shape:
        That of `layer`. Its axes, but that of the batch, must have known sizes.

    Raises:
        TypeError: When called, if no input is of floats, or the output is not one tensor.
        ValueError: If an argument is out of range, or `num_projections` is given for a target
            norm other than 0; when called, if the output is not differentiable.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import layers

    x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
    y = (x[:, 0] > 0).astype("float32")

    network = keras.Sequential([keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(1)])
    model = keras.Sequential([keras.Input((8,)), layers.GradientPenalty(network, weight=0.01)])
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(x, y, epochs=2, verbose=0)
    ```

    References:
        - Drucker and LeCun, 1992, "Improving generalization performance using double
          backpropagation", IEEE Transactions on Neural Networks 3(6)
        - [Gulrajani et al., 2017, "Improved Training of Wasserstein GANs"](
          https://arxiv.org/abs/1704.00028)
        - [Hoffman, Roberts and Yaida, 2019, "Robust Learning with Jacobian Regularization"](
          https://arxiv.org/abs/1908.02729)
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        weight: float = 1.0,
        target_norm: float = 0.0,
        num_projections: int | None = None,
        seed: int | None = None,
        wrt: str | int | None = None,
        **kwargs: Any,
    ):
        super().__init__(layer, wrt, **kwargs)
        self.weight = check_number("weight", weight, at_least=0)
        self.target_norm = check_number("target_norm", target_norm, at_least=0)
        if num_projections is not None:
            num_projections = check_integer("num_projections", num_projections)
            if self.target_norm:
                raise ValueError(
                    "`num_projections` estimates the square of the norm, so it needs a target of "
                    "0; leave it out for the exact norm. Received: "
                    f"num_projections={num_projections}, target_norm={target_norm}"
                )
        self.num_projections = num_projections
        self.seed = check_seed(seed)
        self._seed_generator = num_projections and keras.random.SeedGenerator(self.seed)

    def call(self, inputs: Any) -> Any:
        output, gradients = self.differentiate(
            vector_jacobian_products, self.differentiated(inputs), self._cotangents
        )
        squares = sum(sums_of_squares(gradient) for gradient in gradients)
        if self.target_norm:
            # The root has no derivative at 0, where a row then adds nothing to the gradient.
            norms = ops.sqrt(ops.maximum(squares, _SMALLEST_SQUARE))
            squares = ops.square(norms - self.target_norm)
        self.add_loss(self.weight * ops.mean(squares))
        return output

    def _cotangents(self, output):
        """Tensors v of the output's shape, for which the squares of J^T v sum up to those of J."""
        if self.num_projections is None:
            return unit_vectors(output)
        size = math.prod(known_shape(output))
        vectors = []
        for _ in range(self.num_projections):
            normal = keras.random.normal(
                (ops.shape(output)[0], size), dtype="float32", seed=self._seed_generator
            )
            length = ops.norm(normal, axis=1, keepdims=True)
            scale = (size / self.num_projections) ** 0.5
            vector = ops.reshape(scale * normal / length, ops.shape(output))
            vectors.append(ops.cast(vector, output.dtype))
        return vectors

    def get_config(self) -> dict[str, Any]:
        names = ("weight", "target_norm", "num_projections", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
