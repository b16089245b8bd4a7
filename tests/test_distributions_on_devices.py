"""Heads and Bayesian layers whose batches several devices share out on JAX."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent

pytestmark = pytest.mark.both_backends


def test_four_devices_train_as_one():
    pytest.importorskip("jax", reason="needs JAX")
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(HERE.parent),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    program = [sys.executable, HERE / "distributions_on_devices.py"]
    printed = subprocess.run(program, check=True, env=environment, stdout=subprocess.PIPE)
    results = json.loads(printed.stdout)
    assert set(results) == {"head", "Bayesian"}
    for one, four in results.values():
        np.testing.assert_allclose(four, one, rtol=1e-5)
        assert one[-1] < one[0]
