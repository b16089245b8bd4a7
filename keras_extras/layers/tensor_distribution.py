"""TensorDistribution: a distribution that is a tensor wherever Keras or its backend wants one.

It subclasses a class of TensorFlow Probability, so this module is imported with the first
distribution that a layer makes.
"""

import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_extras._core.backend import backend_module
from keras_extras._core.distribution_kinds import entries_of
from keras_extras._core.probability import require_probability, seed_of, stateless_seed
from keras_extras._core.quantiles import quantile
from keras_extras._seams.held_distributions import HeldDistribution

tfd: Any = require_probability().distributions
_Distribution: Any = tfd.Distribution
_likeness: Any = backend_module("keras_extras.layers.tensor_likeness", "A distribution")

# What a distribution has for every family, and this one hands on; the class has the rest.
_OF_DISTRIBUTION = (
    *("name", "parameters", "parameter_properties", "param_shapes", "param_static_shapes"),
    *("allow_nan_stats", "validate_args", "reparameterization_type", "copy"),
    *("batch_shape", "batch_shape_tensor", "is_scalar_batch"),
    *("event_shape", "event_shape_tensor", "is_scalar_event"),
    *("prob", "log_prob", "unnormalized_log_prob", "cdf", "log_cdf"),
    *("mean", "variance", "stddev", "covariance"),
    *("entropy", "experimental_default_event_space_bijector", "experimental_fit"),
    *("experimental_local_measure", "experimental_shard_axis_names"),
)


class TensorDistribution(
    HeldDistribution, _Distribution, _likeness.TensorLike, metaclass=_likeness.METACLASS
):
    """The output of layers of distributions: a `tfd.Distribution`, and a tensor by one function.

    Methods and properties are those of `tensor_distribution`, except that draws without a seed
    take theirs from the layer's seed generator. Operators are those of the tensor, which is
    computed once, so that all who convert the distribution see the same draw. Its dtype is always
    `keras.config.floatx()`: Keras casts outputs of any other dtype for its losses, and a cast
    leaves a plain tensor.

    Args:
        distribution: A `tfd.Distribution`.
        convert_to_tensor_fn: Name of a method or property of the distribution, or a function of
            the distribution.
        seed_generator: A `keras.random.SeedGenerator`.
    """

    __array_priority__ = 100  # NumPy arrays leave their operators to ours, as to `tf.Tensor`'s.

    def __init__(
        self,
        distribution: Any,
        convert_to_tensor_fn: str | Callable[[Any], Any],
        seed_generator: keras.random.SeedGenerator,
    ):
        # Not `tfd.Distribution.__init__`: its state is that of the wrapped distribution.
        _likeness.TensorLike.__init__(self)
        self.tensor_distribution = distribution
        self._seed_generator = seed_generator
        value = self._concretize(convert_to_tensor_fn)
        if isinstance(value, list | tuple | dict):
            raise TypeError(
                f"`convert_to_tensor_fn` must return one tensor for {distribution}. "
                f"Received: a value of type {type(value).__name__}"
            )
        self._tensor = ops.cast(value, keras.config.floatx())

    def _concretize(self, convert_to_tensor_fn):
        if not isinstance(convert_to_tensor_fn, str):
            return convert_to_tensor_fn(self)
        if not hasattr(self, convert_to_tensor_fn):
            raise ValueError(
                "`convert_to_tensor_fn` must be a function, or name a method or property of "
                f"{self.tensor_distribution}. "
                f"Received: convert_to_tensor_fn={convert_to_tensor_fn!r}"
            )
        value = getattr(self, convert_to_tensor_fn)
        if value is None:  # The other parameter was given, of probabilities and logits.
            value = getattr(self, f"{convert_to_tensor_fn}_parameter", None)
        return value() if callable(value) else value

    def sample(self, sample_shape: Any = (), seed: Any = None, **kwargs: Any) -> Any:
        sample = _likeness.quietly(self.tensor_distribution.sample)
        return sample(sample_shape, seed=self._seed(seed), **kwargs)

    def experimental_sample_and_log_prob(
        self, sample_shape: Any = (), seed: Any = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        both = _likeness.quietly(self.tensor_distribution.experimental_sample_and_log_prob)
        return both(sample_shape, seed=self._seed(seed), **kwargs)

    def _seed(self, seed):
        return stateless_seed(self._seed_generator) if seed is None else seed_of(seed)

    @property
    def dtype(self) -> Any:
        return _likeness.dtype_named(keras.config.floatx())

    @property
    def shape(self) -> Any:
        return self._tensor.shape

    @property
    def ndim(self) -> int:
        return len(self._tensor.shape)

    def __bool__(self) -> bool:
        return bool(self._tensor)

    def __len__(self) -> int:
        return len(self._tensor)

    def __iter__(self) -> Any:
        return iter(self._tensor)

    def quantile(self, value: Any, **kwargs: Any) -> Any:
        """The quantile of each entry, as `keras_extras.predict_distribution` computes it.

        Args:
            value: Float between 0 and 1, or several, which then come along first axes.
            **kwargs: Not used; there for TFP.
        """
        return quantile(self.tensor_distribution, value)

    def survival_function(self, value: Any, **kwargs: Any) -> Any:
        if self._of_one_entry():
            return ops.exp(self.log_survival_function(value, **kwargs))
        return self.tensor_distribution.survival_function(value, **kwargs)

    def log_survival_function(self, value: Any, **kwargs: Any) -> Any:
        """The logarithm of the probability of more than a value, precise in the upper tail."""
        if not self._of_one_entry():
            return self.tensor_distribution.log_survival_function(value, **kwargs)
        # That of the entry; TFP takes the logarithm of 1 - cdf, which rounds to 0 in the tail.
        entry = entries_of(self.tensor_distribution)
        return ops.sum(entry.log_survival_function(value), axis=-1)

    def _of_one_entry(self):
        return self.event_shape == (1,) and entries_of(self.tensor_distribution).event_shape == ()

    # The next two are no properties, because TFP copies them as functions to children.
    def cross_entropy(self, *args: Any, **kwargs: Any) -> Any:
        return self.tensor_distribution.cross_entropy(*args, **kwargs)

    def kl_divergence(self, *args: Any, **kwargs: Any) -> Any:
        return self.tensor_distribution.kl_divergence(*args, **kwargs)

    def mode(self, **kwargs: Any) -> Any:
        try:
            return self.tensor_distribution.mode(**kwargs)
        except NotImplementedError as error:
            raise NotImplementedError(
                f"{self.tensor_distribution} has no mode in closed form. Take its `mean()` or "
                "`quantile(0.5)`"
            ) from error

    def __float__(self) -> float:
        return float(self._tensor)

    def __getattr__(self, name: str) -> Any:
        """Attributes of its family only, such as `loc`, `logits` or `components_distribution`."""
        if name.startswith("_") or name == "tensor_distribution":
            raise AttributeError(name)
        distribution = self.tensor_distribution
        if not hasattr(distribution, name):
            distribution = entries_of(distribution)
        return getattr(distribution, name)


def _of_distribution(name):
    def attribute(self):
        value = getattr(self.tensor_distribution, name)
        return _likeness.quietly(value) if inspect.ismethod(value) else value

    return property(attribute)


def _of_tensor(name):
    def operator(self, *operands):
        return getattr(self._tensor, name)(*map(_tensor_of, operands))

    return operator


def _tensor_of(value):
    return value._tensor if isinstance(value, TensorDistribution) else value


for _name in _OF_DISTRIBUTION:
    setattr(TensorDistribution, _name, _of_distribution(_name))
for _name in _likeness.OPERATORS:
    setattr(TensorDistribution, _name, _of_tensor(_name))
_likeness.register(TensorDistribution)


@tfd.RegisterKL(TensorDistribution, tfd.Distribution)
def _kl_from_tensor_distribution(a, b, name=None):
    return tfd.kl_divergence(a.tensor_distribution, b, name=name)


@tfd.RegisterKL(tfd.Distribution, TensorDistribution)
def _kl_to_tensor_distribution(a, b, name=None):
    return tfd.kl_divergence(a, b.tensor_distribution, name=name)
