"""UncertainWeight: a weight of any layer with a posterior around it, in Keras' ops."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras.layers.variational.noise import draw_standard_normal
from keras_extras.layers.variational.weight_prior import WeightPrior

POSTERIORS = ("mean_field", "deterministic")

_INITIAL_STDDEV = 0.05  # As that of `default_mean_field_normal_fn`.
# Of Krishnan et al. (2020): the share of a weight, and at least a little for weights of zero.
_SHARE_OF_WEIGHT, _LEAST_STDDEV = 0.1, 1e-3


class UncertainWeight:
    """A weight whose posterior is a normal distribution around it, or the point that it is.

    The variable of the weight is the location of the posterior, so that there is none twice.

    Args:
        layer: The wrapper, which gets the other variables.
        variable: The variable of the weight.
        name: String, the start of the names of the other variables.
        posterior: One of `POSTERIORS`.
        prior: As `check_prior_choice` returns it.
        initial_stddev: Number, the standard deviation at first; `None` for the default.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        variable: keras.Variable,
        name: str,
        posterior: str,
        prior: Any,
        initial_stddev: float | None,
    ):
        self.variable = variable
        self._initial_stddev = initial_stddev
        self._dtype = keras.backend.result_type(variable.dtype, "float32")
        self._spacing = float(np.finfo(self._dtype).eps)

        def add_variable(part, shape, initializer, trainable=True):
            return layer.add_weight(
                name=f"{name}_{part}",
                shape=shape,
                initializer=initializer,
                dtype=self._dtype,
                trainable=trainable,
                autocast=False,
            )

        self._is_pretrained = prior == "pretrained"
        self._raw_scale = None
        if posterior == "mean_field":
            self._raw_scale = add_variable(
                "posterior_untransformed_scale", variable.shape, self._initial_raw_scale
            )
        self._prior = WeightPrior(
            prior, tuple(variable.shape), self._dtype, add_variable, self._present_value
        )

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of posterior and prior that are trained."""
        scales = [] if self._raw_scale is None else [self._raw_scale]
        return [*scales, self.variable, *self._prior.variables]

    @property
    def is_random(self) -> bool:
        return self._raw_scale is not None

    def restart(self) -> None:
        """Starts at the present value of the weight again."""
        if self._raw_scale is not None:
            self._raw_scale.assign(self._initial_raw_scale(self.variable.shape))
        if self._prior.center is not None:
            self._prior.center.assign(self._present_value())

    def draw(self, generator: keras.random.SeedGenerator) -> Any:
        """Returns a draw of the posterior."""
        loc, scale = self._loc(), self._scale()
        return loc + scale * draw_standard_normal(scale, generator)

    def divergence(self, generator: keras.random.SeedGenerator) -> Any:
        """Returns the divergence from the prior, a scalar."""
        return self._prior.divergence(self._loc(), self._scale(), lambda: self.draw(generator))

    def _loc(self):
        return ops.cast(self.variable, self._dtype)

    def _present_value(self, shape=None, dtype=None):
        """A copy, because `fit` on JAX must not get one buffer for two variables."""
        return ops.copy(self._loc())

    def _scale(self):
        if self._raw_scale is None:
            return None
        return self._spacing + ops.softplus(ops.convert_to_tensor(self._raw_scale))

    def _initial_raw_scale(self, shape, dtype=None):
        """Computed when the weight has its value, which may be after the variable is added."""
        stddev = self._initial_stddev
        if stddev is None and self._is_pretrained:
            stddev = ops.maximum(_SHARE_OF_WEIGHT * ops.abs(self._loc()), _LEAST_STDDEV)
        stddev = ops.cast(_INITIAL_STDDEV if stddev is None else stddev, self._dtype)
        # The inverse of softplus.
        raw_scale = stddev + ops.log(-ops.expm1(-stddev))
        return ops.broadcast_to(raw_scale, shape)
