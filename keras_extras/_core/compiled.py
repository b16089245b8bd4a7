"""Functions compiled by the backend, which read variables when they are called."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_extras._core.stateless import substituted


def compiled(
    function: Callable,
    variables: Iterable[keras.Variable] = (),
    jit_compile: bool | None = None,
) -> Callable:
    """Returns a function compiled for the shapes of its arguments, once for each of them.

    Args:
        function: From structures of tensors to a structure of tensors.
        variables: What it reads, which JAX would else take for constants.
        jit_compile: Boolean, whether TensorFlow compiles by XLA, as JAX always does. Defaults to
            `None`, as TensorFlow chooses.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # XLA needs to know the shapes.
        any_shape = jit_compile is None
        return tf.function(
            function, autograph=False, reduce_retracing=any_shape, jit_compile=jit_compile
        )
    import jax

    variables = list(variables)

    @jax.jit
    def of_values(values, *arguments):
        with substituted(zip(variables, values)):
            return function(*arguments)

    return lambda *arguments: of_values([v.value for v in variables], *arguments)


def any_of(shape: Sequence[int | None], dtype: Any) -> keras.KerasTensor:
    """Returns what stands for all tensors of a shape, whose axes of length `None` have any."""
    return keras.KerasTensor(shape, keras.backend.standardize_dtype(dtype))


def compiled_for_any_length(
    function: Callable, arguments: Sequence[Any], variables: Iterable[keras.Variable] = ()
) -> Callable:
    """Returns a function compiled as `compiled` does, once for all arguments on TensorFlow.

    Args:
        function: From structures of tensors to a structure of tensors.
        arguments: What `any_of` returns in the place of each tensor.
        variables: What it reads.
    """
    if keras.backend.backend() != "tensorflow":
        return compiled(function, variables)
    import tensorflow as tf

    # Not the function itself: TensorFlow would warn where many models are compiled.
    return tf.function(
        function, input_signature=_specs(list(arguments)), autograph=False
    ).get_concrete_function()


def trace(function: Callable, *arguments: Any) -> None:
    """Calls a function once with tensors that have no values, and compiles nothing.

    Args:
        function: From structures of tensors to a structure of tensors.
        *arguments: Structures of tensors, or of what `any_of` returns, with axes of known length
            on JAX.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.function(function, autograph=False).get_concrete_function(*_specs(arguments))
    else:
        import jax

        jax.eval_shape(function, *_specs(arguments))


def leaves_scope(function: Callable, *arguments: Any) -> bool:
    """Returns whether a function returns tensors of a loop or branch, which are not known outside.

    Args:
        function: From structures of tensors to a list of tensors.
        *arguments: As of `trace`.
    """
    if keras.backend.backend() == "tensorflow":
        found: list[bool] = []

        def look(*arguments):
            here = keras.tree.flatten(arguments)[0].graph
            found.append(any(tensor.graph is not here for tensor in function(*arguments)))
            return keras.ops.zeros(())

        trace(look, *arguments)
        return found[0]
    import jax

    try:
        trace(function, *arguments)
    except jax.errors.UnexpectedTracerError:
        return True
    return False


def _specs(arguments):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        kind = tf.TensorSpec
    else:
        import jax

        kind = jax.ShapeDtypeStruct
    return keras.tree.map_structure(lambda v: kind(tuple(v.shape), v.dtype), arguments)
