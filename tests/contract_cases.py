"""One list of constructors for the contract: a class is covered the moment it stands here.

Constructors use arguments other than the defaults, so that a configuration that loses one shows,
and start weights away from the bounds of their constraints, so that one step moves them.
"""

from functools import partial

import keras
import numpy as np
from contract import LayerCase, LossCase, MetricCase, OptimizerCase

import keras_extras

_GENERATOR = np.random.default_rng(3)
_ROWS = _GENERATOR.normal(size=(12, 5)).astype("float32")
_SEQUENCES = _GENERATOR.normal(size=(12, 4, 3)).astype("float32")
_IMAGES = _GENERATOR.normal(size=(12, 2, 2, 3)).astype("float32")
_INTEGERS = _GENERATOR.integers(-9, 9, size=(12, 5)).astype("int32")

_WITH_GAPS = _ROWS.copy()
_WITH_GAPS[::3, 0] = -999.0
_WITH_GAPS[1::4, 2] = np.nan

_LABELS = (np.arange(24) % 2).astype("float32")[:, None]
_PROBABILITIES = np.clip(
    0.3 + 0.4 * _LABELS + _GENERATOR.normal(scale=0.3, size=(24, 1)), 0.01, 0.99
).astype("float32")


def _einstein(form: str) -> keras.layers.Layer:
    return keras_extras.layers.EinsteinLatent(
        6,
        form=form,
        alpha_initializer=keras.initializers.Constant(1.5),
        beta_initializer=keras.initializers.Constant(0.5),
        use_bias=True,
        activation="tanh",
        kernel_regularizer="l2",
        epsilon=1e-2,
    )


def _scale_shift() -> keras.layers.Layer:
    return keras_extras.layers.ScaleShift(
        scale_initializer=keras.initializers.Constant(2.0),
        shift_initializer=keras.initializers.Constant(0.5),
        shift_regularizer="l1",
    )


def _imputer(**arguments) -> keras.layers.Layer:
    layer = keras_extras.layers.MissingValueImputer(strategy="mean", **arguments)
    layer.adapt(_WITH_GAPS)
    return layer


LAYERS = [
    *(
        LayerCase(
            f"EinsteinLatent-{form}",
            partial(_einstein, form),
            _ROWS,
            (_SEQUENCES, _IMAGES, _INTEGERS),
        )
        for form in ("field_equation", "linear", "log", "inverse", "diagonal", "tensor")
    ),
    LayerCase("ScaleShift", _scale_shift, _ROWS, (_SEQUENCES, _IMAGES, _INTEGERS)),
    LayerCase("MissingValueImputer", _imputer, _WITH_GAPS, (_ROWS[:, None], _INTEGERS)),
    LayerCase("MissingValueImputer-indicator", partial(_imputer, add_indicator=True), _WITH_GAPS),
]

OPTIMIZERS = [
    OptimizerCase(
        "MonteCarloOptimizer",
        lambda **arguments: keras_extras.optimizers.MonteCarloOptimizer(
            population_size=16, seed=1, **arguments
        ),
    ),
]

LOSSES: list[LossCase] = []

METRICS = [
    MetricCase(
        "ApproximateMedianSignificance",
        lambda: keras_extras.metrics.ApproximateMedianSignificance(),
        _LABELS,
        _PROBABILITIES,
    ),
]

# Nothing can be made of a class that leaves a method to its children.
ABSTRACT = {"LossEvaluatingOptimizer"}
