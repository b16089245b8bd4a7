"""Head: the base of named layers of distributions, and what they share."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_inputs, check_integers
from keras_extras.layers.distribution_layer import DistributionLayer

_LARGEST_LOGARITHM = 20.0


class Head(DistributionLayer):
    """A layer of distributions of a known family.

    A child has a function `new(params, *arguments, validate_args)` that makes the distribution,
    names the attributes that are its arguments in `arguments`, and keeps in `num_params` the
    length of its inputs' last axis where that is known.
    """

    arguments: tuple[str, ...] = ()
    num_params: int | None = None

    def compute_output_spec(self, inputs: Any, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        # Keras takes an error in `call`, on its way to the shape, for a fault of the layer.
        self._check_inputs(inputs)
        return super().compute_output_spec(inputs, *args, **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        self._check_inputs(inputs)
        return super().call(ops.cast(inputs, self.compute_dtype), training=training)

    def _check_inputs(self, inputs):
        check_inputs(self.name, inputs)
        if self.num_params is not None and inputs.shape[-1] != self.num_params:
            raise ValueError(
                f"Layer {self.name!r} needs inputs whose last axis has "
                f"{type(self).__name__}.params_size(...) = {self.num_params} entries. "
                f"Received: inputs.shape={tuple(inputs.shape)}. "
                f"Put `keras.layers.Dense({self.num_params})` before it."
            )

    def make_distribution(self, inputs: Any) -> Any:
        arguments = (getattr(self, name) for name in self.arguments)
        return self.new(inputs, *arguments, validate_args=self.validate_args)

    def get_config(self) -> dict[str, Any]:
        arguments = {name: getattr(self, name) for name in self.arguments}
        return {**super().get_config(), **arguments}


def example(head: str, inputs: str, result: str) -> str:
    """Returns the example of the docstring of a head.

    Args:
        head: A call of its constructor.
        inputs: Its inputs, as a list.
        result: A call of a method of the distribution, and what it returns.
    """
    return f"""
    Example:

    ```python
    import numpy as np
    import keras_extras

    layer = keras_extras.layers.{head}
    distribution = layer(np.array({inputs}))
    distribution.{result}
    ```
    """


def event_dims(event_shape: int | Sequence[int]) -> tuple[int, ...]:
    """Returns an event shape as a tuple of integers."""
    return check_integers("event_shape", event_shape, minimum=0)


def dtype_name(dtype: Any) -> str | None:
    """Returns the name of a dtype that is given as a name, a NumPy or a TensorFlow dtype."""
    try:
        return None if dtype is None else keras.backend.standardize_dtype(dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`sample_dtype` must be a dtype. Received: sample_dtype={dtype!r}"
        ) from error


def positive_scale(raw_scale: Any) -> Any:
    """Returns softplus of a raw scale, at least 1e-5.

    With large inputs at the start of training softplus would round to 0, and densities to NaN.
    """
    return ops.maximum(ops.softplus(raw_scale), 1e-5)


def finite_logarithm(logarithm: Any) -> Any:
    """Returns the logarithm of a positive parameter that does not overflow.

    Above exp(20) the parameter goes on as a straight line, so that large inputs at the start of
    training have a finite loss and a gradient.
    """
    excess = ops.log1p(ops.maximum(logarithm - _LARGEST_LOGARITHM, 0.0))
    return ops.minimum(logarithm, _LARGEST_LOGARITHM) + excess
