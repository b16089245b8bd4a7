"""The share of divergences that counts while a callback warms them up."""

import contextvars

import keras

# Layers that are built in the first step of a warm-up start with its share.
current_share: contextvars.ContextVar[float] = contextvars.ContextVar("kl_share", default=1.0)


def add_share(layer: keras.layers.Layer) -> keras.Variable:
    """Returns a new variable of the layer, which `callbacks.KLWarmUp` finds by its name."""
    return layer.add_weight(
        name="kl_warm_up",
        shape=(),
        initializer=keras.initializers.Constant(current_share.get()),
        dtype="float32",
        autocast=False,
        trainable=False,
    )
