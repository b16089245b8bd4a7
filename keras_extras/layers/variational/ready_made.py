"""Posteriors and priors of weights by name, so that layers need no functions of the user's.

All follow the protocol of `default_mean_field_normal_fn()`: called with `dtype`, `shape`, `name`,
`trainable` and `add_variable_fn`, they return a distribution of event shape `shape`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.distribution_kinds import unwrap
from keras_extras._core.probability import tfb, tfd
from keras_extras.layers.default_loc_scale_fn import (
    default_mean_field_normal_fn,
    default_multivariate_normal_fn,
    deferred,
)

# The standard deviation that posteriors start with, as `default_mean_field_normal_fn` does.
_INITIAL_SCALE = 0.05
_INITIAL_RAW_SCALE = float(np.log(np.expm1(_INITIAL_SCALE)))


def make_distribution(
    choice: Any,
    ready_made: dict[str, Callable],
    argument: str,
    dtype: Any,
    shape: Sequence[int],
    name: str,
    trainable: bool,
    add_variable_fn: Callable,
) -> Any:
    """Makes the distribution of a weight, and checks its shape.

    Args:
        choice: Name of a ready-made distribution, function of the protocol, or a
            `tfd.Distribution` of single numbers, which all entries of the weight then have.
        ready_made: `POSTERIORS` or `PRIORS`.
        argument: Name of the argument, for errors.
        dtype: The dtype of the weight.
        shape: Integers, the shape of the weight.
        name: Name of the weight, the start of the variables' names.
        trainable: Boolean, whether the variables are trained.
        add_variable_fn: `add_weight` of the layer.

    Returns:
        A `tfd.Distribution` of event shape `shape`, or None if `choice` is None.
    """
    if choice is None:
        return None
    if isinstance(choice, tfd.Distribution):
        return _for_all_entries(
            unwrap(choice), argument, shape, keras.backend.standardize_dtype(dtype)
        )
    make = ready_made[choice] if isinstance(choice, str) else choice
    distribution = unwrap(make(dtype, shape, name, trainable, add_variable_fn))
    event_shape = getattr(distribution, "event_shape", None)
    if event_shape is None or tuple(event_shape) != tuple(shape):
        raise ValueError(
            f"`{argument}` must return a distribution of event shape {tuple(shape)}, that of the "
            f"weight {name!r}. Received: {distribution}"
        )
    return distribution


def _for_all_entries(distribution, argument, shape, dtype):
    if distribution.batch_shape.rank or distribution.event_shape.rank:
        raise ValueError(
            f"`{argument}` as a distribution must be one of a single number, which all entries of "
            f"the weight have. Received: {distribution}"
        )
    if isinstance(distribution, tfd.Normal):  # `tfd.kl_divergence` knows no samples.
        loc, scale = (ops.cast(v, dtype) for v in (distribution.loc, distribution.scale))
        return tfd.Independent(tfd.Normal(ops.broadcast_to(loc, shape), scale), len(shape))
    return tfd.Sample(distribution, shape)


def _multivariate_normal(dtype, shape, name, trainable, add_variable_fn):
    """A normal distribution with all covariances, for one small weight."""
    size = int(np.prod(shape))
    dtype = keras.backend.standardize_dtype(dtype)
    loc = add_variable_fn(
        name=f"{name}_loc",
        shape=(size,),
        initializer=keras.initializers.RandomNormal(stddev=0.1),
        dtype=dtype,
        trainable=trainable,
    )
    raw_scale = add_variable_fn(
        name=f"{name}_untransformed_scale_tril",
        shape=(size * (size + 1) // 2,),
        initializer=_diagonal_scale,
        dtype=dtype,
        trainable=trainable,
    )
    tril = tfb.FillScaleTriL(diag_bijector=tfb.Softplus(), diag_shift=None)
    return tfd.TransformedDistribution(
        tfd.MultivariateNormalTriL(
            deferred(lambda: ops.convert_to_tensor(loc), dtype, (size,)),
            scale_tril=deferred(
                lambda: tril(ops.convert_to_tensor(raw_scale)), dtype, (size, size)
            ),
        ),
        tfb.Reshape(shape),
    )


def _diagonal_scale(shape, dtype=None):
    """Parameters of which `FillScaleTriL` makes a diagonal of small standard deviations."""
    size = int((8 * shape[0] + 1) ** 0.5) // 2
    matrix = ops.eye(size, dtype=dtype) * _INITIAL_RAW_SCALE
    return tfb.FillTriangular().inverse(matrix)


def _trainable_normal(dtype, shape, name, trainable, add_variable_fn):
    """One location and one scale for all entries, trained with the posterior."""
    dtype = keras.backend.standardize_dtype(dtype)
    loc = add_variable_fn(
        name=f"{name}_loc", shape=(), initializer="zeros", dtype=dtype, trainable=trainable
    )
    raw_scale = add_variable_fn(
        name=f"{name}_untransformed_scale",
        shape=(),
        initializer=keras.initializers.Constant(np.log(np.expm1(1.0))),
        dtype=dtype,
        trainable=trainable,
    )
    entries = tfd.Normal(
        deferred(lambda: ops.broadcast_to(ops.convert_to_tensor(loc), shape), dtype, shape),
        deferred(lambda: ops.softplus(ops.convert_to_tensor(raw_scale)), dtype, ()),
    )
    return tfd.Independent(entries, len(shape))


def _scale_mixture(dtype, shape, name, trainable, add_variable_fn):
    """Half wide, half narrow: Blundell et al. (2015), section 3.3, with scales 1 and exp(-6)."""
    dtype = keras.backend.standardize_dtype(dtype)
    entry = tfd.MixtureSameFamily(
        tfd.Categorical(probs=ops.convert_to_tensor([0.5, 0.5], dtype)),
        tfd.Normal(ops.zeros((), dtype), ops.convert_to_tensor([1.0, np.exp(-6.0)], dtype)),
    )
    return tfd.Sample(entry, shape)


POSTERIORS = {
    "mean_field": lambda *arguments: default_mean_field_normal_fn()(*arguments),
    "deterministic": lambda *arguments: default_mean_field_normal_fn(is_singular=True)(*arguments),
    "multivariate_normal": _multivariate_normal,
}

PRIORS = {
    "standard_normal": default_multivariate_normal_fn,
    "trainable": _trainable_normal,
    "scale_mixture": _scale_mixture,
}
