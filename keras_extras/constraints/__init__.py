"""Constraints on weights."""

from keras_extras.constraints.box import Box
from keras_extras.constraints.spectral_norm import SpectralNorm

__all__ = ["Box", "SpectralNorm"]
