"""Files with Bayesian weights load on the other backend, with the same numbers."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import bayesian_files
import keras
import numpy as np
import pytest
from precision import ON_JAX

pytestmark = pytest.mark.both_backends(cases=1)


def test_files_of_the_other_backend_have_the_same_numbers(tmp_path):
    other = "tensorflow" if ON_JAX else "jax"
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"needs {other}")
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "KERAS_BACKEND": other,
        "PYTHONPATH": os.pathsep.join(map(str, (here, here.parent))),
    }
    program = here / "bayesian_files.py"
    subprocess.run([sys.executable, program, tmp_path], check=True, env=environment)
    for index, name in enumerate(bayesian_files.MODELS):
        expected = np.load(tmp_path / f"{index}.npy")
        for model in (
            keras.saving.load_model(tmp_path / f"{index}.keras"),
            bayesian_files.started(name),
        ):
            np.testing.assert_allclose(
                bayesian_files.numbers(model), expected, rtol=1e-5, atol=1e-5, err_msg=name
            )
