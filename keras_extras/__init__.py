"""Keras 3 layers, distributions, optimizers that need no gradients, datasets and pipelines."""

import importlib

from keras_extras._version import __version__

_SUBPACKAGES = (
    "autodiff",
    "callbacks",
    "constraints",
    "datasets",
    "inference",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "optimizers",
    "pipelines",
    "tuners",
    "unrolled",
    "visualization",
)

_OF_INFERENCE = ("make_variational", "predict_distribution")

__all__ = ["__version__", "tfp", *_OF_INFERENCE, *_SUBPACKAGES]


def __getattr__(name: str):
    if name in _OF_INFERENCE:
        return getattr(importlib.import_module(f"{__name__}.inference"), name)
    if name == "tfp":  # TensorFlow Probability of the Keras backend.
        return importlib.import_module(f"{__name__}._core.probability").require_probability()
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
