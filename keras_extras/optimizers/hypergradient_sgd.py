"""HypergradientSGD: stochastic gradient descent that adapts its learning rate."""

from typing import Any

import keras

from keras_extras._core.checks import check_flag, check_number
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras._seams.optimizer_variables import index_of
from keras_extras.optimizers.hypergradient_optimizer import RAISES, HypergradientOptimizer


@serializable
@fill_docstring(raises=RAISES)
class HypergradientSGD(HypergradientOptimizer):
    r"""Stochastic gradient descent whose learning rate learns itself during `fit`.

    With g the gradient of the batch at the weights w, v a velocity and a the learning rate:

        v <- momentum v + g                     d <- v, or momentum v + g with nesterov
        a <- a + hypergradient_learning_rate * (g . last d)        before the step
        w <- w - a d

    The product `g . last d`, over all weights, is minus the derivative of the loss with respect to
    the learning rate of the last step: as long as steps go on downhill the rate grows, and where
    they overshoot it falls. So a small rate to start from is safe. With `rule="multiplicative"` the
    rate is multiplied by `1 + hypergradient_learning_rate * cos(g, last d)` instead, which does not
    depend on the scale of the loss. A rate that would turn negative is 0. It costs one copy of the
    weights and one product of vectors a step.

    The rate is `optimizer.learning_rate`, saved with the model, and `learning_rate` in the logs of
    `fit`. The velocity does not contain it; with `hypergradient_learning_rate=0` all is as in
    `keras.optimizers.SGD`. Clipping bounds d, not the g of the product.

    References:
        Baydin, Cornish, Martinez Rubio, Schmidt and Wood (2018), "Online learning rate adaptation
        with hypergradient descent", algorithms 4 and 5, and equation 9 for the multiplicative rule.

    Args:
        learning_rate: Float, the learning rate of the first step. Defaults to `0.01`.
        momentum: Float between 0 and 1, what is kept of the velocity. Defaults to `0.0`.
        nesterov: Boolean, whether to use Nesterov momentum. Defaults to `False`.
        hypergradient_learning_rate: Float, how fast the learning rate learns. With the additive
            rule its scale is that of rate over squared gradient. Defaults to `0.001`.
        rule: String, `"additive"` or `"multiplicative"`. Defaults to `"additive"`.
        name: String, name of the optimizer. Defaults to `"hypergradient_sgd"`.
        **kwargs: Of `keras.optimizers.Optimizer`, such as `weight_decay`.

    {raises}

    Example:

    ```python
    import keras
    import keras_extras
    import numpy as np

    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    y = x @ np.array([[1.0], [-2.0], [0.5], [0.0]], "float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras_extras.optimizers.HypergradientSGD(1e-4), "mse")
    history = model.fit(x, y, epochs=5, verbose=0)
    print(history.history["learning_rate"])
    ```
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        hypergradient_learning_rate: float = 0.001,
        rule: str = "additive",
        name: str = "hypergradient_sgd",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, hypergradient_learning_rate, rule, name=name, **kwargs)
        self.momentum = check_number("momentum", momentum, at_least=0.0, at_most=1.0)
        self.nesterov = check_flag("nesterov", nesterov)
        if nesterov and not self.momentum:
            raise ValueError(
                "`nesterov=True` needs a `momentum` greater than 0, such as 0.9. "
                f"Received: momentum={momentum!r}"
            )

    def build(self, variables) -> None:
        if self.built or not variables:
            return
        super().build(variables)
        if self.momentum:
            self._momentums = self.add_state(variables, "momentum")

    def direction(self, gradient: Any, variable: keras.Variable) -> Any:
        if not self.momentum:
            return gradient
        momentum = self._momentums[index_of(self, variable)]
        velocity = self.momentum * momentum + gradient
        self.assign(momentum, velocity)
        return self.momentum * velocity + gradient if self.nesterov else velocity

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}
