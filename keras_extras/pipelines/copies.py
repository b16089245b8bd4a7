"""Copies of layers, optimizers and metrics that have no state in common."""

import os
import tempfile
from typing import Any

import keras
import numpy as np


def copy_layer(layer: keras.Layer, seed: int, realization: int, role: str) -> keras.Layer:
    """Returns a copy of `layer` whose trainable weights are drawn again.

    Weights that are not trainable, of frozen layers or of adapted ones, are copied.
    """
    copy = _copy(layer, seed, realization, role)
    if layer.weights:
        if not copy.built:
            copy.build_from_config(layer.get_build_config())
            copy.built = True  # as Keras does on loading: subclassed models do not notice
        drawn = [(weight, weight.numpy()) for weight in copy.trainable_weights]
        _copy_weights(layer, copy)
        for weight, value in drawn:
            weight.assign(value)
    return copy


def copy_optimizer(
    optimizer: Any, seed: int, realization: int, role: str
) -> keras.optimizers.Optimizer:
    """Returns an optimizer, from a name, config or instance, that has not taken a step."""
    return _copy(keras.optimizers.get(optimizer), seed, realization, role)


def copy_metrics(metrics: Any) -> Any:
    """Returns the list, dict or nested list with instances that have no state in common."""
    return keras.tree.map_structure(
        lambda metric: (
            type(metric).from_config(metric.get_config())
            if isinstance(metric, keras.Metric)
            else metric
        ),
        metrics,
    )


def _copy(keras_object, seed, realization, role):
    generator = np.random.default_rng([seed, realization, *role.encode()])
    config = _with_own_seeds(keras_object.get_config(), realization, generator)
    return type(keras_object).from_config(config)


def _with_own_seeds(config, realization, generator):
    """Draws every `"seed"` in `config` that is None, and counts on from every one that is given."""
    if isinstance(config, dict):
        return {
            key: _own_seed(value, realization, generator)
            if key == "seed" and (value is None or isinstance(value, int))
            else _with_own_seeds(value, realization, generator)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_with_own_seeds(value, realization, generator) for value in config)
    return config


def _own_seed(seed, realization, generator):
    return int(generator.integers(2**31)) if seed is None else seed + realization


def _copy_weights(source, target):
    """Through a file, as layers like Normalization compute with more than their weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "copy.weights.h5")
        _as_model(source).save_weights(path)
        _as_model(target).load_weights(path)


def _as_model(layer):
    if isinstance(layer, keras.Model):
        return layer
    model = keras.Sequential([layer])
    model.build(layer.get_build_config()["input_shape"])
    return model
