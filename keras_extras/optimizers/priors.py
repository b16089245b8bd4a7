"""Sampling distributions for parameters: where a search may start, and in which units it moves."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_number
from keras_extras._core.registration import serializable


class Prior:
    """Base class: a distribution from which the values of a variable can be drawn.

    A subclass implements `sample` and `stddev`, and `get_config` for its arguments.

    Example:

    ```python
    import keras
    from keras_extras.optimizers import MonteCarloOptimizer, priors

    @keras.saving.register_keras_serializable()
    class Exponential(priors.Prior):
        stddev = 1.0

        def sample(self, shape, seed=None):
            return -keras.ops.log(keras.random.uniform(shape, 1e-7, 1.0, seed=seed))

        def get_config(self):
            return {}

    optimizer = MonteCarloOptimizer(priors={"*/scale": Exponential()}, num_prior_samples=100)
    ```
    """

    @property
    def stddev(self) -> float:
        """The standard deviation; above 1 or below 0.01 it is the unit of the search."""
        raise NotImplementedError

    def sample(self, shape: Sequence[int], seed: Any = None) -> Any:
        """Draws a float32 tensor of the given shape; `seed` as in `keras.random`."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Prior":
        return cls(**config)


@serializable
class Normal(Prior):
    """Normal distribution.

    Args:
        loc: Float, the mean. Defaults to `0.0`.
        scale: Positive float, the standard deviation. Defaults to `1.0`.

    Example:

    ```python
    from keras_extras.optimizers import MonteCarloOptimizer, priors

    prior = priors.Normal(0.0, 2.0)
    prior.sample((3,), seed=1)
    optimizer = MonteCarloOptimizer(priors={"*/kernel": prior}, num_prior_samples=100)
    ```
    """

    def __init__(self, loc: float = 0.0, scale: float = 1.0):
        self.loc = check_number("loc", loc)
        self.scale = check_number("scale", scale, above=0)

    @property
    def stddev(self) -> float:
        return self.scale

    def sample(self, shape: Sequence[int], seed: Any = None) -> Any:
        return keras.random.normal(shape, self.loc, self.scale, dtype="float32", seed=seed)

    def get_config(self) -> dict[str, Any]:
        return {"loc": self.loc, "scale": self.scale}


@serializable
class HalfNormal(Prior):
    """The absolute value of a normal variable with mean 0: for parameters that are not negative.

    Args:
        scale: Positive float, the standard deviation of that normal variable.
            Defaults to `1.0`.

    Example:

    ```python
    from keras_extras.optimizers import MonteCarloOptimizer, priors

    prior = priors.HalfNormal(2.0)
    prior.sample((3,), seed=1)
    optimizer = MonteCarloOptimizer(priors={"*/scale": prior}, num_prior_samples=100)
    ```
    """

    def __init__(self, scale: float = 1.0):
        self.scale = check_number("scale", scale, above=0)

    @property
    def stddev(self) -> float:
        return self.scale * (1 - 2 / math.pi) ** 0.5

    def sample(self, shape: Sequence[int], seed: Any = None) -> Any:
        return ops.abs(keras.random.normal(shape, 0.0, self.scale, dtype="float32", seed=seed))

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale}


@serializable
class Uniform(Prior):
    """Uniform distribution.

    Args:
        low: Float, the lower limit. Defaults to `-1.0`.
        high: Float above `low`, the upper limit. Defaults to `1.0`.

    Example:

    ```python
    from keras_extras.optimizers import MonteCarloOptimizer, priors

    prior = priors.Uniform(-0.5, 0.5)
    prior.sample((3,), seed=1)
    optimizer = MonteCarloOptimizer(priors={"*/bias": prior}, num_prior_samples=100)
    ```
    """

    def __init__(self, low: float = -1.0, high: float = 1.0):
        self.low = check_number("low", low)
        self.high = check_number("high", high)
        if self.high <= self.low:
            raise ValueError(
                f"`high` must be greater than `low`. Received: low={low!r}, high={high!r}"
            )

    @property
    def stddev(self) -> float:
        return (self.high - self.low) / 12**0.5

    def sample(self, shape: Sequence[int], seed: Any = None) -> Any:
        return keras.random.uniform(shape, self.low, self.high, dtype="float32", seed=seed)

    def get_config(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}
