"""Values at once, also while TensorFlow builds a graph or JAX traces a program."""

import contextlib

import keras


def at_compile_time() -> contextlib.AbstractContextManager:
    """Within it, what does not depend on arguments of a program is computed and has its value."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.init_scope()
    import jax

    return jax.ensure_compile_time_eval()
