"""A batch or a population that several devices share out on JAX."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_extras.optimizers import MonteCarloOptimizer

HERE = Path(__file__).parent


pytestmark = pytest.mark.both_backends


@pytest.fixture(scope="module")
def results():
    """What `search_on_devices.py` prints, in a process with four devices."""
    pytest.importorskip("jax", reason="needs JAX")
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(HERE.parent),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    program = [sys.executable, HERE / "search_on_devices.py"]
    printed = subprocess.run(program, check=True, env=environment, stdout=subprocess.PIPE)
    return json.loads(printed.stdout)


@pytest.mark.parametrize("shared", ["batch", "population"])
def test_four_devices_find_what_one_finds_and_each_does_its_share(results, shared):
    one, four = results["one"], results[shared]
    np.testing.assert_allclose(four["loss"], one["loss"], rtol=1e-5)
    for ours, theirs in zip(four["weights"], one["weights"]):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert four["operations"] < 0.6 * one["operations"]


def test_what_does_not_divide_or_is_not_there_is_an_error(results):
    assert (
        "multiple of the number of devices. Received: population_size=6, 4 devices"
        in (results["indivisible"])
    )
    assert results["too many"] == "Device not found: cpu:4"


def test_bad_arguments():
    with pytest.raises(ValueError, match="`shard` must be one of 'batch', 'population'"):
        MonteCarloOptimizer(shard="rows")
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match=r"needs Keras' JAX backend.*tf\.distribute"):
            MonteCarloOptimizer(shard="population")
