"""DistributionLambda: a distribution from a function of the inputs."""

from collections.abc import Callable
from typing import Any

from keras_extras._core.distribution_kinds import unwrap
from keras_extras._core.functions import deserialize_function, serialize_function
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.distribution_layer import DistributionLayer


@serializable
class DistributionLambda(DistributionLayer):
    """Makes a distribution of its inputs by a function of the user's.

    `model(x)` is then a distribution with all methods of `tfd.Distribution`, and a tensor
    wherever Keras or its backend wants one: the next layer, a metric, `predict`. In `compile` a
    loss may be written as `lambda y, rv_y: -rv_y.log_prob(y)`.

    The function may be a lambda. A model saved with one loads only with `safe_mode=False`; one
    with a function registered by `keras.saving.register_keras_serializable`, a class of
    `tfp.distributions` such as `tfd.Poisson`, or a named layer such as `IndependentNormal`, loads
    in safe mode. Modules, numbers, strings and arrays that a lambda uses are saved with it; a
    lambda that uses other functions, classes or layers is refused when it is saved.

    Trainable parameters belong in layers before this one: Keras does not see variables that
    the function uses.

    Args:
        make_distribution_fn: Function from the inputs, a tensor or a structure of tensors, to a
            `tfd.Distribution`.
        convert_to_tensor_fn: What stands for the distribution where a tensor is wanted: the name
            of a method or property such as `"sample"`, `"mean"` or `"mode"`, the method itself
            such as `tfd.Distribution.mean`, or a function of the distribution. Defaults to
            `"sample"`.
        **kwargs: `validate_args`, `seed` and `dtype` of the draws and computations, and arguments
            of `keras.layers.Layer`, such as `name` and `activity_regularizer`. With
            `validate_args=True` NaN inputs and parameters out of range raise an error that names
            the layer, except in programs that JAX compiles.

    Input shape:
        What the function takes.

    Output shape:
        That of the tensor, for draws the batch shape followed by the event shape.

    Raises:
        TypeError: If `make_distribution_fn` is not callable or returns no distribution.
        ImportError: On a Keras backend other than TensorFlow and JAX.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras
    from keras_extras import tfp

    model = keras.Sequential([
        keras.layers.Dense(2),
        keras_extras.layers.DistributionLambda(
            lambda t: tfp.distributions.Normal(t[..., :1], 1e-3 + keras.ops.softplus(t[..., 1:]))
        ),
    ])
    model.compile("adam", loss=lambda y, rv_y: -rv_y.log_prob(y))
    x = np.linspace(-1.0, 1.0, 32)[:, None]
    model.fit(x, 2.0 * x, epochs=2, verbose=0)
    model(x).stddev()  # one standard deviation for each of the 32 rows
    ```
    """

    def __init__(
        self,
        make_distribution_fn: Callable[..., Any],
        convert_to_tensor_fn: str | Callable[[Any], Any] = "sample",
        **kwargs: Any,
    ):
        super().__init__(convert_to_tensor_fn=convert_to_tensor_fn, **kwargs)
        self.make_distribution_fn = deserialize_function(make_distribution_fn)
        if not callable(self.make_distribution_fn):
            raise TypeError(
                "`make_distribution_fn` must be a function from the inputs to a distribution. "
                f"Received: make_distribution_fn={make_distribution_fn!r}"
            )

    def make_distribution(self, inputs: Any) -> Any:
        distribution = self.make_distribution_fn(inputs)
        return _validated(distribution) if self.validate_args else distribution

    def get_config(self) -> dict[str, Any]:
        function = serialize_function(self.make_distribution_fn, self.name)
        return {**super().get_config(), "make_distribution_fn": function}


def _validated(distribution):
    """The distribution with TFP's own checks of parameters, also inside of it."""
    if not isinstance(distribution, tfd.Distribution):
        return distribution
    inner = {
        name: _validated(value)
        for name, value in unwrap(distribution).parameters.items()
        if isinstance(value, tfd.Distribution)
    }
    return unwrap(distribution).copy(validate_args=True, **inner)
