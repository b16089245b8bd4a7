"""Classification of distributions: mixtures, wrappers, counts, and their dtype."""

from typing import Any

import keras

from keras_extras._core.probability import is_floating, tfd


def unwrap(distribution: Any) -> Any:
    """Returns the distribution that a layer's output stands for, or the distribution itself."""
    return getattr(distribution, "tensor_distribution", distribution)


def tensor_of(value: Any) -> Any:
    """Returns the tensor that a layer's output stands for, or the tensor itself."""
    return getattr(value, "_tensor", value) if hasattr(value, "tensor_distribution") else value


def is_a(distribution: Any, *kinds: type) -> bool:
    """Returns `isinstance`, also true around distributions that are no composite tensors.

    Around these TFP makes an object of the base class, `_Independent` for `tfd.Independent`.

    Args:
        distribution: A `tfd.Distribution`.
        *kinds: Classes of TFP's distributions that hold others.
    """
    return any(
        isinstance(distribution, base)
        for kind in kinds
        for base in kind.__mro__
        if base is kind or base.__name__ == f"_{kind.__name__}"
    )


def entries_of(distribution: Any) -> Any:
    """Returns what `Independent` distributions hold, or the distribution itself."""
    distribution = unwrap(distribution)
    while is_a(distribution, tfd.Independent):
        distribution = unwrap(distribution.distribution)
    return distribution


def is_mixture(distribution: Any) -> bool:
    """Whether it is a mixture of one family."""
    return is_a(distribution, tfd.MixtureSameFamily)


def is_mixture_of_families(distribution):
    return is_a(distribution, tfd.Mixture)


def is_reshaped(distribution):
    return is_a(distribution, tfd.BatchReshape, tfd.BatchBroadcast)


def _parts_of(distribution):
    """The components of a mixture, and what a reshaped distribution holds; none of others."""
    if is_mixture(distribution):
        return [distribution.components_distribution]
    if is_mixture_of_families(distribution):
        return distribution.components
    return [distribution.distribution] if is_reshaped(distribution) else []


def is_multivariate_normal(distribution: Any) -> bool:
    """Whether each entry of draws is normal by itself, without saying so."""
    kinds = (
        tfd.MultivariateNormalLinearOperator,
        tfd.MultivariateNormalDiagPlusLowRankCovariance,
        tfd.MatrixNormalLinearOperator,
        tfd.LinearGaussianStateSpaceModel,
    )
    return isinstance(distribution, kinds)


def is_transformed(distribution: Any) -> bool:
    """Returns whether the class is `tfd.TransformedDistribution` itself, and no subclass."""
    name = type(distribution).__name__.lstrip("_")
    return is_a(distribution, tfd.TransformedDistribution) and name == "TransformedDistribution"


def mixture_weights(mixture: Any) -> Any:
    """Returns the weights of components, with an axis of length 1 for each axis of the event."""
    weights = mixture.mixture_distribution.probs_parameter()
    for _ in range(mixture.event_shape.rank):
        weights = weights[..., None]
    return weights


def float_dtype(distribution: Any) -> str:
    """Returns the name of the dtype of probabilities, also where draws are integers."""
    distribution = entries_of(distribution)
    if is_floating(distribution.dtype):
        return keras.backend.standardize_dtype(distribution.dtype)
    parts = _parts_of(distribution)
    if parts:
        return float_dtype(parts[0])
    for value in distribution.parameters.values():
        dtype = getattr(value, "dtype", None)
        if dtype is not None and is_floating(dtype):
            return keras.backend.standardize_dtype(dtype)
    return "float32"


def is_discrete(distribution: Any) -> bool:
    """Whether all probability lies on whole numbers, labels or other single values."""
    distribution = entries_of(distribution)
    parts = _parts_of(distribution)
    if parts:
        return all(map(is_discrete, parts))
    if isinstance(distribution, tfd.Deterministic | tfd.VectorDeterministic):
        return True
    if isinstance(distribution, tfd.FiniteDiscrete | tfd.Empirical):
        return True
    if is_a(distribution, tfd.TransformedDistribution, tfd.Sample):
        return is_discrete(distribution.distribution)
    # What maps all real numbers to draws; of discrete distributions TFP has nothing to return.
    try:
        return distribution.experimental_default_event_space_bijector() is None
    except (NotImplementedError, TypeError):  # A TypeError is TFP's own, with NumPy 2.
        return not is_floating(distribution.dtype)


def takes_whole_numbers(distribution: Any) -> bool:
    """Whether draws are whole numbers, and not fractions with probabilities."""
    distribution = entries_of(distribution)
    parts = _parts_of(distribution)
    if parts:
        return all(map(takes_whole_numbers, parts))
    return counts(distribution) and not isinstance(distribution, tfd.Deterministic)


def counts(distribution):
    own_lattice = (tfd.FiniteDiscrete, tfd.Empirical, tfd.QuantizedDistribution, tfd.Skellam)
    return is_discrete(distribution) and not is_a(distribution, *own_lattice)
