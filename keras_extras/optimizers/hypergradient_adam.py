"""HypergradientAdam: Adam that adapts its learning rate."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_number, check_share
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras._seams.optimizer_variables import index_of
from keras_extras.optimizers.hypergradient_optimizer import RAISES, HypergradientOptimizer


@serializable
@fill_docstring(raises=RAISES)
class HypergradientAdam(HypergradientOptimizer):
    r"""Adam whose learning rate learns itself during `fit`.

    With g the gradient of the batch at the weights w, m and s the moments of Adam at step t, and
    a the learning rate:

        d <- m / (1 - beta_1^t) / (sqrt(s / (1 - beta_2^t)) + epsilon)
        a <- a + hypergradient_learning_rate * (g . last d)        before the step
        w <- w - a d

    with epsilon as in `keras.optimizers.Adam`, which it equals for
    `hypergradient_learning_rate=0`. The product `g . last d`, over all weights, is minus the
    derivative of the loss with respect to the learning rate of the last step. With
    `rule="multiplicative"` the rate is multiplied by
    `1 + hypergradient_learning_rate * cos(g, last d)` instead, which does not depend on the scale
    of the loss. A rate that would turn negative is 0. It costs one copy of the weights and one
    product of vectors a step.

    The rate is `optimizer.learning_rate`, saved with the model, and `learning_rate` in the logs of
    `fit`. Clipping bounds what goes into the moments, not the g of the product.

    References:
        Baydin, Cornish, Martinez Rubio, Schmidt and Wood (2018), "Online learning rate adaptation
        with hypergradient descent", algorithm 6, and equation 9 for the multiplicative rule.

    Args:
        learning_rate: Float, the learning rate of the first step. Defaults to `0.001`.
        beta_1: Float in (0, 1), the decay of the first moment. Defaults to `0.9`.
        beta_2: Float in (0, 1), the decay of the second moment. Defaults to `0.999`.
        epsilon: Positive float, keeps the quotient finite. Defaults to `1e-07`.
        hypergradient_learning_rate: Float, how fast the learning rate learns. The default is the
            authors', a careful one; with the additive rule its scale is that of rate over
            gradient. Defaults to `1e-07`.
        rule: String, `"additive"` or `"multiplicative"`. Defaults to `"additive"`.
        name: String, name of the optimizer. Defaults to `"hypergradient_adam"`.
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
    optimizer = keras_extras.optimizers.HypergradientAdam(hypergradient_learning_rate=1e-5)
    model.compile(optimizer, "mse")
    history = model.fit(x, y, epochs=5, verbose=0)
    print(history.history["learning_rate"])
    ```
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        hypergradient_learning_rate: float = 1e-7,
        rule: str = "additive",
        name: str = "hypergradient_adam",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, hypergradient_learning_rate, rule, name=name, **kwargs)
        self.beta_1 = check_share("beta_1", beta_1)
        self.beta_2 = check_share("beta_2", beta_2)
        self.epsilon = check_number("epsilon", epsilon, above=0.0)

    def build(self, variables) -> None:
        if self.built or not variables:
            return
        super().build(variables)
        self._momentums = self.add_state(variables, "momentum")
        self._velocities = self.add_state(variables, "velocity")

    def direction(self, gradient: Any, variable: keras.Variable) -> Any:
        index = index_of(self, variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        self.assign_add(momentum, (1.0 - self.beta_1) * (gradient - momentum))
        self.assign_add(velocity, (1.0 - self.beta_2) * (gradient**2 - velocity))
        step = ops.cast(self.iterations + 1, variable.dtype)
        correction = ops.sqrt(1.0 - self.beta_2**step) / (1.0 - self.beta_1**step)
        return correction * momentum / (ops.sqrt(velocity) + self.epsilon)

    def get_config(self) -> dict[str, Any]:
        names = ("beta_1", "beta_2", "epsilon")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
