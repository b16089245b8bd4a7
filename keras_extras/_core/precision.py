"""How precise numbers can be."""

import keras


def widest_float() -> str:
    """Returns `"float64"`, or `"float32"` where JAX has only that, without `jax_enable_x64`."""
    if keras.backend.backend() != "jax":
        return "float64"
    import jax

    return jax.dtypes.canonicalize_dtype("float64").name
