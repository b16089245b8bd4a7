"""KLDivergenceRegularizer: keeps a layer's distribution close to a prior."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_flag
from keras_extras._core.compile_time import at_compile_time
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.functions import optional_function, serialize_function
from keras_extras._core.registration import serializable
from keras_extras._core.stateless import substituted
from keras_extras.layers.divergence_weight import WEIGHT, DivergenceWeight
from keras_extras.layers.kl_divergence import FORMULA, check_prior, divergence
from keras_extras.layers.prior_config import deserialize_prior, serialize_prior


@serializable
@fill_docstring(formula=FORMULA, weight=WEIGHT)
class KLDivergenceRegularizer(keras.regularizers.Regularizer):
    """Kullback-Leibler divergence of a layer's distribution from a prior.

    {formula}

    As `activity_regularizer` of a layer of distributions `a` it adds the mean over the batch to
    the loss, so that with a negative log-likelihood as the loss the sum is minus the evidence
    lower bound. By default the expectation is estimated at one test point for each member of the
    batch, the draw that the next layer is given.

    Called by itself it returns the sum over the batch, which Keras divides by the batch size.

    References:
        Kingma and Welling (2014), "Auto-encoding variational Bayes",
        [arXiv:1312.6114](https://arxiv.org/abs/1312.6114).

    Args:
        distribution_b: The prior: a `tfd.Distribution`; a layer or model, called with `0.`, whose
            weights are trained with the layer's; or a function without arguments.
        use_exact_kl: Boolean, whether to use the closed form, for pairs of distributions that
            have one. Defaults to `False`.
        test_points_reduce_axis: Integer or integers, axes over which to average the estimates, for
            several test points; `None` for all. Defaults to `()`.
        test_points_fn: Function from `a` to the test points; `None` means its tensor. Defaults to
            `None`.
        {weight}

    Raises:
        TypeError: If `distribution_b` is none of these.
        ValueError: If it holds trainable `tf.Variable`s, which Keras would not train.

    Example:

    ```python
    import numpy as np
    from keras_extras import layers, tfp

    prior = tfp.distributions.MultivariateNormalDiag([0.0, 0.0])
    encoder = layers.MultivariateNormalTriL(
        2, activity_regularizer=layers.KLDivergenceRegularizer(prior, use_exact_kl=True)
    )
    encoder(np.zeros((1, 5)))
    encoder.losses  # [0.14]
    ```
    """

    def __init__(
        self,
        distribution_b: Any,
        use_exact_kl: bool = False,
        test_points_reduce_axis: int | Sequence[int] | None = (),
        test_points_fn: Callable[[Any], Any] | None = None,
        weight: Any = None,
    ):
        self.distribution_b = check_prior(deserialize_prior(distribution_b))
        self.use_exact_kl = check_flag("use_exact_kl", use_exact_kl)
        self.test_points_reduce_axis = test_points_reduce_axis
        self.test_points_fn = optional_function("test_points_fn", test_points_fn)
        self.divergence_weight = DivergenceWeight(weight)

    def __call__(self, distribution_a: Any) -> Any:
        """Returns the divergence, summed over the batch.

        Args:
            distribution_a: A `tfd.Distribution`.
        """
        total = ops.sum(
            divergence(
                distribution_a,
                self.distribution_b,
                self.use_exact_kl,
                self.test_points_reduce_axis,
                self.test_points_fn,
                self.divergence_weight,
            )
        )
        is_output = hasattr(distribution_a, "tensor_distribution")
        if not is_output or not len(distribution_a.shape) or _keras_divides_by_batch_size():
            return total
        return total / ops.cast(ops.shape(distribution_a)[0], total.dtype)

    def get_config(self) -> dict[str, Any]:
        axis = self.test_points_reduce_axis
        return {
            "distribution_b": serialize_prior(self.distribution_b, type(self).__name__),
            "use_exact_kl": self.use_exact_kl,
            "test_points_reduce_axis": list(axis) if isinstance(axis, tuple) else axis,
            "test_points_fn": serialize_function(self.test_points_fn, type(self).__name__),
            "weight": self.divergence_weight.config,
        }


@functools.cache
def _keras_divides_by_batch_size():
    """Whether activity regularizers are averaged over the batch, as in Keras 3.15, not in 3.12."""
    with at_compile_time(), substituted() as scope:
        layer = keras.layers.Activation("linear", activity_regularizer=keras.regularizers.L1(1.0))
        layer(ops.ones((2, 1)))
        return float(scope.losses[0]) < 1.5
