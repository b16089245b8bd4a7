"""A warning of divergences of weights that outweigh the data."""

import warnings
import weakref

import keras

from keras_extras._core.user_frames import user_stacklevel
from keras_extras._seams.layers_within import layers_within

_MEANS = ("sum_over_batch_size", "mean", "mean_with_sample_weight")
_warned: weakref.WeakSet = weakref.WeakSet()


def warn_of_unscaled_divergence(model: keras.Model) -> None:
    """Warns once of a model that adds unscaled divergences of its weights to a mean loss.

    The negative evidence lower bound of a row is the mean loss and the divergence divided by the
    number of training rows.

    Args:
        model: The model, at the start of its `fit`.
    """
    if model in _warned or not _has_mean_loss(model):
        return
    layers = [e for e in layers_within(model) if getattr(e, "adds_full_divergence", False)]
    if layers:
        _warned.add(model)
        warnings.warn(
            f"Layer {layers[0].name!r} adds the divergence of its weights, undivided, to a loss "
            "that is a mean over rows, so the prior counts as much as all rows together. Set "
            "kl_weight='auto' to divide it by the number of training rows, or kl_weight=1.0 to "
            "keep it and silence this warning.",
            stacklevel=user_stacklevel(),
        )


def _has_mean_loss(model):
    """Whether Keras computes a compiled loss of the model as a mean over the batch."""
    if type(model).compute_loss is not keras.Model.compute_loss:
        return False
    losses = keras.tree.flatten(getattr(model, "loss", None))
    return any(loss is not None and getattr(loss, "reduction", "mean") in _MEANS for loss in losses)
