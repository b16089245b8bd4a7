"""Fixed distributions as configurations, without code: a class of TFP and its parameters."""

from typing import Any

import keras
import numpy as np

from keras_extras._core.distribution_kinds import unwrap
from keras_extras._core.functions import distribution_class
from keras_extras._core.probability import tf, tfd

_PLAIN = (bool, int, float, str, type(None))


def serialize_distribution(distribution: Any) -> dict[str, Any]:
    """Returns the configuration of a distribution.

    Args:
        distribution: A `tfd.Distribution` whose parameters are numbers, arrays, tensors known now
            and other such distributions.

    Raises:
        ValueError: If it is another class, or a parameter is something else.
    """
    distribution = unwrap(distribution)
    name = type(distribution).__name__.lstrip("_")
    if not isinstance(distribution, distribution_class(name)):
        raise ValueError(
            f"A distribution of class {type(distribution)} cannot be saved. Use one of "
            "tensorflow_probability.distributions, a model, or a function with the decorator "
            "`keras.saving.register_keras_serializable()`."
        )
    parameters = {
        key: _serialize(f"{name}.{key}", value)
        for key, value in distribution.parameters.items()
        if value is not None
    }
    return {"distribution": name, "parameters": parameters}


def deserialize_distribution(config: dict[str, Any]) -> Any:
    """The distribution that `serialize_distribution` described."""
    parameters = {key: _deserialize(value) for key, value in config["parameters"].items()}
    return distribution_class(config["distribution"])(**parameters)


def _serialize(name, value):
    if isinstance(value, tfd.Distribution):
        return serialize_distribution(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tf.DType | type):  # On JAX dtypes are classes.
        return {"dtype": keras.backend.standardize_dtype(value)}
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, NotImplementedError):
        array = np.asarray(None)
    if array.dtype == object:
        raise ValueError(f"The parameter `{name}` cannot be saved. Received: {value!r}")
    if not hasattr(value, "dtype"):
        return array.tolist()  # TFP chooses the dtype of Python numbers.
    return {"array": array.tolist(), "dtype": keras.backend.standardize_dtype(array.dtype)}


def _deserialize(value):
    if not isinstance(value, dict):
        return value
    if "distribution" in value:
        return deserialize_distribution(value)
    if "array" in value:
        return np.array(value["array"], value["dtype"])
    return tf.as_dtype(value["dtype"])
