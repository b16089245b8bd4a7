"""What models and optimizers are given keeps a contract, too, and none of it is left out.

Callbacks, initializers, schedules, priors, transforms and hypermodels: a configuration holds every
argument, a wrong argument is refused by its name, and transforms have inverses.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import keras_tuner
import numpy as np
import pytest
from contract_support import check_config
from test_docstrings import public_names

from keras_extras import callbacks, constraints, initializers, tuners
from keras_extras.optimizers import priors, schedules, transforms


class Case(NamedTuple):
    """A class, arguments other than its defaults, and for each argument what it refuses."""

    cls: type
    given: dict[str, Any]
    refused: Mapping[str, tuple] = MappingProxyType({})


def network(hp):
    """A model for a hypermodel of models."""


CASES = [
    Case(
        callbacks.BackupAndResume,
        {"backup_dir": Path("backup"), "delete_backup": False, "stateful": [callbacks.SWAG(1)]},
        {"backup_dir": (3, ""), "delete_backup": (None, "no"), "stateful": (None, [3])},
    ),
    Case(
        callbacks.SWAG,
        {"start_epoch": 3, "every": 2, "unit": "batches", "rank": 5},
        {"start_epoch": (-1, 1.5), "every": (0, "all"), "unit": ("steps",), "rank": (0, 1, 2.5)},
    ),
    Case(callbacks.KLWarmUp, {"epochs": 5, "start": 0.1}, {"epochs": (0, 1.5), "start": (-1, 2)}),
    Case(callbacks.SearchMonitor, {"every": 3, "optimizer_name": "cma"}, {"every": (0, "all")}),
    Case(
        callbacks.StopWhenConverged,
        {
            "z_score": 2.0,
            "window": 4,
            "min_relative_change": 0.1,
            "monitor": "val_loss",
            "verbose": 1,
        },
        {"z_score": (-1, "high"), "window": (1, 2.5), "min_relative_change": (-1, np.nan)},
    ),
    Case(
        constraints.Box,
        {"lower": -0.5, "upper": 2.0},
        {"lower": (3.0, "a"), "upper": (-1.0, np.nan)},
    ),
    Case(
        constraints.SpectralNorm,
        {"max_value": 0.5, "power_iterations": 3},
        {"max_value": (0.0, "a"), "power_iterations": (0, 1.5)},
    ),
    Case(
        initializers.ActivationUniform,
        {"activation": "relu", "seed": 3},
        {"activation": ("identity", None)},
    ),
    Case(
        schedules.PowerDecay,
        {"initial_learning_rate": 0.1, "epsilon": 0.5, "steps_per_epoch": 4, "name": "power"},
        {"initial_learning_rate": (0, 1, "a"), "epsilon": (-1, None), "steps_per_epoch": (0, 1.5)},
    ),
    Case(priors.Normal, {"loc": 1.0, "scale": 2.0}, {"loc": ("a", np.inf), "scale": (0, -1, True)}),
    Case(priors.HalfNormal, {"scale": 2.0}, {"scale": (0, -1, None)}),
    Case(priors.Uniform, {"low": 0.5, "high": 2.0}, {"low": (np.nan, "a"), "high": (0.5, 0.25)}),
    Case(transforms.Bounds, {"lower": -1.0, "upper": 2.0}, {"lower": ("a",), "upper": (-1, -2)}),
    Case(transforms.Positive, {}),
    Case(transforms.Integer, {}),
    Case(transforms.Simplex, {}),
    Case(transforms.Ordered, {}),
    Case(transforms.OneHot, {}),
    Case(transforms.Choice, {"values": [1.0, 2.0, 4.0]}, {"values": (3, "abc", [1.0], [1.0, "a"])}),
    Case(tuners.AutoencoderClassifierHyperModel, {"num_features": 4}, {"num_features": (0, 1.5)}),
    Case(
        tuners.BayesianHyperModel,
        {"num_features": 4, "training_set_size": 100},
        {"num_features": (0, 1.5), "training_set_size": (0, "auto"), "task": ("sorting",)},
    ),
    Case(tuners.MixtureDensityHyperModel, {"num_features": 4}, {"num_features": (0, 1.5)}),
    Case(tuners.MonteCarloHyperModel, {"model": network, "loss": "mse"}, {"model": (None, 3)}),
    Case(
        tuners.TabularHyperModel,
        {"num_features": 4},
        {"num_features": (0, 1.5), "task": ("sorting",), "num_outputs": (0, "two")},
    ),
]
# Base classes, what a search makes, and a tuner, which needs a folder: in tests of their own.
LEFT_OUT = {"HypergradientTuner", "Prior", "SearchReport", "Transform", "TrialRecord"}
MODULES = (callbacks, constraints, initializers, schedules, priors, transforms, tuners)


def is_hypermodel(cls):
    return issubclass(cls, keras_tuner.HyperModel)


def arguments_of(cls):
    return set(inspect.signature(cls.__init__).parameters) - {"self", "args", "kwargs"}


def test_no_public_class_is_left_out():
    public = {
        value
        for module in MODULES
        for name, value in public_names(module)
        if inspect.isclass(value) and name not in LEFT_OUT
    }
    assert public == {case.cls for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.cls.__name__)
def test_arguments_are_kept_and_wrong_ones_refused_by_their_names(case):
    thing = case.cls(**case.given)
    for name, value in case.given.items():
        assert getattr(thing, name) == value
    if not is_hypermodel(case.cls):
        assert set(case.given) == arguments_of(case.cls)
    if hasattr(thing, "get_config"):
        check_config(thing)
    for name, values in case.refused.items():
        for value in values:
            with pytest.raises((TypeError, ValueError), match=rf"`{name}`.*Received: .*{name}"):
                case.cls(**{**case.given, name: value})


TRANSFORMS = [case for case in CASES if issubclass(case.cls, transforms.Transform)]


@pytest.mark.parametrize("case", TRANSFORMS, ids=lambda case: case.cls.__name__)
def test_transforms_find_the_coordinates_of_their_values(case):
    transform = case.cls(**case.given)
    coordinates = np.random.default_rng(5).normal(scale=2.0, size=(6, 4)).astype("float32")
    values = transform(coordinates)
    np.testing.assert_allclose(transform(transform.inverse(values)), values, rtol=1e-5, atol=1e-6)
