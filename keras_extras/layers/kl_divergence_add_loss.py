"""KLDivergenceAddLoss: passes a distribution on and adds its divergence from a prior."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_flag
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.functions import optional_function, serialize_function
from keras_extras._core.probability import require_probability, tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.divergence_weight import WEIGHT, DivergenceWeight
from keras_extras.layers.kl_divergence import FORMULA, check_prior, divergence
from keras_extras.layers.prior_config import deserialize_prior, serialize_prior


@serializable
@fill_docstring(formula=FORMULA, weight=WEIGHT)
class KLDivergenceAddLoss(keras.layers.Layer):
    """Adds the Kullback-Leibler divergence of its input from a prior to the loss.

    {formula}

    averaged over the batch. The output is the input, a distribution `a`. It does what
    `KLDivergenceRegularizer` does, behind the layer instead of in its `activity_regularizer`.

    Args:
        distribution_b: The prior: a `tfd.Distribution`; a layer or model, called with `0.`, whose
            weights are trained with the model's; or a function without arguments.
        use_exact_kl: Boolean, whether to use the closed form, for pairs of distributions that
            have one. Defaults to `False`.
        test_points_reduce_axis: Integer or integers, axes over which to average the estimates
            first; `None` for all. Defaults to `None`.
        test_points_fn: Function from `a` to the test points; `None` means its tensor. Defaults to
            `None`.
        {weight}
        **kwargs: Of `keras.layers.Layer`, such as `name`.

    Input shape:
        A distribution: the output of a layer such as `MultivariateNormalTriL`.

    Output shape:
        That of the input.

    Raises:
        TypeError: If `distribution_b` is none of these, or, in `call`, if the input is no
            distribution.
        ValueError: If it holds trainable `tf.Variable`s, which Keras would not train.

    Example:

    ```python
    import keras
    from keras_extras import layers, tfp

    prior = tfp.distributions.MultivariateNormalDiag([0.0, 0.0])
    encoder = keras.Sequential([
        keras.Input((3,)),
        keras.layers.Dense(layers.MultivariateNormalTriL.params_size(2)),
        layers.MultivariateNormalTriL(2),
        layers.KLDivergenceAddLoss(prior, weight=0.1),
    ])
    ```
    """

    def __init__(
        self,
        distribution_b: Any,
        use_exact_kl: bool = False,
        test_points_reduce_axis: int | Sequence[int] | None = None,
        test_points_fn: Callable[[Any], Any] | None = None,
        weight: Any = None,
        **kwargs: Any,
    ):
        require_probability()
        # Without autocast: a cast would leave a plain tensor of the distribution.
        super().__init__(**{"autocast": False, **kwargs})
        self.distribution_b = check_prior(deserialize_prior(distribution_b))
        self.use_exact_kl = check_flag("use_exact_kl", use_exact_kl)
        self.test_points_reduce_axis = test_points_reduce_axis
        self.test_points_fn = optional_function("test_points_fn", test_points_fn)
        self.divergence_weight = DivergenceWeight(weight)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not isinstance(inputs, tfd.Distribution):
            raise TypeError(
                f"Layer {self.name!r} must follow a layer of distributions, such as "
                f"`MultivariateNormalTriL`. Received: inputs of type {type(inputs).__name__}"
            )
        self.divergence_weight.advance(training)
        values = divergence(
            inputs,
            self.distribution_b,
            self.use_exact_kl,
            self.test_points_reduce_axis,
            self.test_points_fn,
            self.divergence_weight,
        )
        self.add_loss(ops.mean(values))
        return inputs

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        # Where models are put together, distributions are seen as tensors.
        spec = keras.KerasTensor(inputs.shape, inputs.dtype)
        spec.source = getattr(inputs, "source", None)
        return spec

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        axis = self.test_points_reduce_axis
        return {
            **super().get_config(),
            "distribution_b": serialize_prior(self.distribution_b, self.name),
            "use_exact_kl": self.use_exact_kl,
            "test_points_reduce_axis": list(axis) if isinstance(axis, tuple) else axis,
            "test_points_fn": serialize_function(self.test_points_fn, self.name),
            "weight": self.divergence_weight.config,
        }
