"""Priors of the weights of any layer: the divergence of a posterior from each, in Keras' ops."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_choice
from keras_extras._core.probability import tfd
from keras_extras.layers.prior_config import deserialize_prior
from keras_extras.layers.variational.ready_made import PRIORS, make_distribution
from keras_extras.layers.variational.weight_divergence import closed_form, estimate

NAMES = ("standard_normal", "pretrained", "trainable", "scale_mixture")

_LOG_SQRT_2_PI = 0.5 * math.log(2.0 * math.pi)
_MIXTURE_LOG_SCALE = -6.0


class WeightPrior:
    """The prior of one weight, whose entries are independent.

    Args:
        choice: One of `NAMES` or a `tfd.Distribution` of a single number.
        shape: Integers, the shape of the weight.
        dtype: The dtype of posterior and prior.
        add_variable: Function like `add_weight` that adds a variable of the prior.
        pretrained: Initializer of the center of the prior `"pretrained"`.
    """

    def __init__(
        self, choice: Any, shape: Any, dtype: str, add_variable: Callable, pretrained: Callable
    ):
        self.choice = choice
        self.variables: list[keras.Variable] = []
        self.center: keras.Variable | None = None
        self._distribution = None
        self._shape, self._dtype = shape, dtype
        if choice == "pretrained":
            self.center = add_variable("prior_loc", shape, pretrained, trainable=False)
        elif choice == "trainable":
            raw_scale = keras.initializers.Constant(math.log(math.expm1(1.0)))
            self.variables = [
                add_variable("prior_loc", (), "zeros"),
                add_variable("prior_untransformed_scale", (), raw_scale),
            ]
        elif not isinstance(choice, str):
            self._distribution = make_distribution(
                choice, PRIORS, "prior", dtype, shape, "prior", False, add_variable
            )

    def divergence(self, loc: Any, scale: Any, draw: Callable[[], Any]) -> Any:
        """Returns KL(posterior, prior), summed over the entries; without closed form an estimate.

        Args:
            loc: Tensor, the location of the posterior.
            scale: Tensor, its standard deviation; `None` for a posterior that is a point, of which
                the divergence is minus the logarithm of the prior's density.
            draw: Function that draws from the posterior.
        """
        if self._distribution is not None:
            return self._divergence_from_distribution(loc, scale, draw)
        if self.choice == "scale_mixture":
            return self._divergence_from_mixture(loc, scale, draw)
        prior_loc, prior_scale = self._loc_and_scale()
        difference = loc if prior_loc is None else loc - prior_loc
        squares = _sum_of_squares(difference)
        count = math.prod(self._shape)
        if scale is not None:
            squares += _sum_of_squares(scale)
        if prior_scale is None:
            value = 0.5 * squares
        else:
            value = 0.5 * squares / ops.square(prior_scale) + count * ops.log(prior_scale)
        if scale is None:
            return value + count * _LOG_SQRT_2_PI
        return value - ops.sum(ops.log(scale)) - 0.5 * count

    def _loc_and_scale(self):
        """Of a normal prior; `None` for 0 and for 1."""
        if self.choice == "trainable":
            loc, raw_scale = map(ops.convert_to_tensor, self.variables)
            return loc, ops.softplus(raw_scale)
        return None if self.center is None else ops.convert_to_tensor(self.center), None

    def _divergence_from_mixture(self, loc, scale, draw):
        """At a draw: half of standard deviation 1, half of exp(-6) (Blundell et al., 2015)."""
        weight = loc if scale is None else draw()
        narrow = weight * math.exp(-_MIXTURE_LOG_SCALE)
        log_prior = ops.logaddexp(
            -0.5 * ops.square(weight), -0.5 * ops.square(narrow) - _MIXTURE_LOG_SCALE
        )
        log_prior = ops.sum(log_prior - math.log(2.0) - _LOG_SQRT_2_PI)
        if scale is None:
            return -log_prior
        log_posterior = -0.5 * ops.square((weight - loc) / scale) - ops.log(scale)
        return ops.sum(log_posterior - _LOG_SQRT_2_PI) - log_prior

    def _divergence_from_distribution(self, loc, scale, draw):
        entries = tfd.Deterministic(loc) if scale is None else tfd.Normal(loc, scale)
        posterior = tfd.Independent(entries, len(self._shape))
        value = closed_form(posterior, self._distribution)
        if value is not None:
            return value
        return estimate(posterior, self._distribution, loc if scale is None else draw())


def check_prior_choice(choice: Any) -> Any:
    """Returns one of `NAMES` or a `tfd.Distribution`.

    Raises:
        TypeError: If it is something else.
        ValueError: If a name is unknown.
    """
    if isinstance(choice, str):
        return check_choice("prior", choice, NAMES)
    choice = deserialize_prior(choice)
    if isinstance(choice, tfd.Distribution):
        return choice
    raise TypeError(
        f"`prior` must be one of {', '.join(map(repr, NAMES))}, a `tfd.Distribution` of a single "
        f"number, or a dict from patterns of weight paths to these. Received: prior={choice!r}"
    )


def _sum_of_squares(values):
    return ops.sum(ops.square(values))
