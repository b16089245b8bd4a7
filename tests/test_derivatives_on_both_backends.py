"""TensorFlow and JAX give the same derivatives for the same weights and data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import derivatives_on_a_backend
import numpy as np
import pytest


@pytest.mark.slow
def test_both_backends_give_the_same_numbers():
    pytest.importorskip("jax", reason="needs another Keras backend to be installed")
    run = subprocess.run(
        [sys.executable, derivatives_on_a_backend.__file__],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    on_jax = json.loads(run.stdout)
    for name, expected in derivatives_on_a_backend.numbers().items():
        scale = np.abs(expected).max()
        assert scale > 1e-3, name
        np.testing.assert_allclose(
            on_jax[name], expected, rtol=1e-5, atol=1e-5 * scale, err_msg=name
        )
