"""The prior and the estimate of the regularizer and the layer of a KL divergence."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.distribution_kinds import tensor_of, unwrap
from keras_extras._core.probability import tfd
from keras_extras.layers.divergence_weight import DivergenceWeight

# Of the docstrings of the regularizer and the layer.
FORMULA = """
    ```
    KL(a, b) = E log a(z) - log b(z), z drawn from a
    ```
    """


def check_prior(distribution_b: Any) -> Any:
    """Returns `distribution_b` if its trainable parameters can be trained by Keras."""
    if isinstance(distribution_b, keras.layers.Layer):
        distribution_b(ops.zeros(()))  # builds it, so that its weights exist
    elif isinstance(distribution_b, type) or not (
        isinstance(distribution_b, tfd.Distribution) or callable(distribution_b)
    ):
        raise TypeError(
            "`distribution_b` must be a distribution, a layer or model that returns one, or a "
            f"function without arguments. Received: distribution_b={distribution_b!r}"
        )
    elif getattr(distribution_b, "trainable_variables", ()):
        raise ValueError(
            "`distribution_b` must not hold trainable variables of TensorFlow, because Keras does "
            "not train them. For a prior that is learned, give a model, such as "
            "`keras.Sequential([keras_extras.layers.VariableLayer(2), "
            f"keras_extras.layers.IndependentNormal()])`. Received: {distribution_b}"
        )
    return distribution_b


def divergence(
    distribution_a: Any,
    distribution_b: Any,
    use_exact_kl: bool,
    test_points_reduce_axis: int | Sequence[int] | None,
    test_points_fn: Callable[[Any], Any] | None,
    weight: DivergenceWeight,
) -> Any:
    """Returns the weighted divergence, exact or at test points, not yet summed."""
    if not isinstance(distribution_a, tfd.Distribution):
        raise TypeError(
            "A KL divergence needs the output of a layer of distributions, such as "
            "`MultivariateNormalTriL`. "
            f"Received: a value of type {type(distribution_a).__name__}"
        )
    if isinstance(distribution_b, keras.layers.Layer):
        distribution_b = distribution_b(ops.zeros(()))
    elif not isinstance(distribution_b, tfd.Distribution):
        distribution_b = distribution_b()
    prior = unwrap(distribution_b)
    if use_exact_kl:
        values = tfd.kl_divergence(unwrap(distribution_a), prior)
    else:
        points = (test_points_fn or _default_points)(distribution_a)
        values = distribution_a.log_prob(points) - prior.log_prob(points)
        values = ops.mean(values, axis=test_points_reduce_axis)
    return weight.times(values)


def _default_points(distribution):
    """The tensor of a layer's distribution that the next layer sees, or a draw."""
    is_output = hasattr(distribution, "tensor_distribution")
    if is_output:
        return tensor_of(distribution)
    seed = None  # TensorFlow draws by the seed of the process.
    if keras.backend.backend() == "jax":
        seed = ops.cast(keras.random.randint((2,), 0, 2**31 - 1), "uint32")
    return distribution.sample(seed=seed)
