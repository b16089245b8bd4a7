"""Where data comes from."""

from keras_extras.datasets import higgs

__all__ = ["higgs"]
