"""Parts for single Keras backends."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras


def require_tensorflow(owner: str) -> None:
    """Raises if Keras stands on another backend.

    Args:
        owner: What needs it, the start of the error's sentence.

    Raises:
        ImportError: On a Keras backend other than TensorFlow.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ImportError(
            f"{owner} needs Keras' TensorFlow backend. Received: backend={backend!r}. "
            "Set the environment variable KERAS_BACKEND=tensorflow before importing keras."
        )


def require_tensorflow_or_jax(owner: str) -> None:
    """Raises if Keras stands on a backend other than these two.

    Args:
        owner: What needs one of them, the start of the error's sentence.

    Raises:
        ImportError: On another Keras backend.
    """
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise ImportError(
            f"{owner} needs Keras' TensorFlow or JAX backend. Received: backend={backend!r}. Set "
            "the environment variable KERAS_BACKEND to tensorflow or jax before importing keras."
        )


def backend_module(package: str, owner: str) -> ModuleType:
    """Returns the module of a package that bears the name of Keras' backend.

    Args:
        package: The package's full name; it has the modules `tensorflow` and `jax`.
        owner: What needs it, the start of the error's sentence.

    Raises:
        ImportError: On a Keras backend other than TensorFlow and JAX.
    """
    require_tensorflow_or_jax(owner)
    return importlib.import_module(f"{package}.{keras.backend.backend()}")


def without_autograph(function: Callable) -> Callable:
    """Returns a function that TensorFlow's AutoGraph leaves as it is."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)


def is_traced(tensor: Any) -> bool:
    """Returns whether a tensor belongs to a program that is being compiled."""
    if keras.backend.backend() == "jax":
        import jax

        return isinstance(tensor, jax.core.Tracer)
    import tensorflow as tf

    return not tf.executing_eagerly()


def is_compiling() -> bool:
    """Returns whether operations called now become part of a program that is being compiled."""
    return is_traced(keras.ops.zeros(()))


def host_value(variable: keras.Variable) -> Any:
    """Returns the value of a scalar variable as of NumPy, outside of graphs, without delay."""
    if keras.backend.backend() != "tensorflow":
        return variable.numpy()
    import tensorflow as tf

    value = variable.value
    if isinstance(value, tf.distribute.DistributedValues):
        return value.numpy()
    # A third of the time that `value.numpy()` takes.
    return tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype).numpy()


def num_replicas() -> int:
    """Returns how many replicas of `tf.distribute` share a batch; 1 on JAX, where none do."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
