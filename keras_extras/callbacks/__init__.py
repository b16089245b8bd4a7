"""What accompanies `fit`."""

from keras_extras.callbacks.kl_warm_up import KLWarmUp

__all__ = ["KLWarmUp"]
