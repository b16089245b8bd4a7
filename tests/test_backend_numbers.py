"""Both backends give the same numbers for the same weights, candidates and batches."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import backend_numbers
import head_numbers
import numpy as np
import pytest


@pytest.mark.parametrize("module", [backend_numbers, head_numbers], ids=["searches", "heads"])
def test_numbers_are_those_of_the_other_backend(module, tmp_path):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs JAX")
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": os.pathsep.join(map(str, (here, here.parent))),
    }
    file = tmp_path / "numbers.npz"
    subprocess.run([sys.executable, module.__file__, file], check=True, env=environment)
    with np.load(file) as arrays:
        ours, theirs = module.numbers(), dict(arrays)
    assert set(ours) == set(theirs)
    for name, values in ours.items():
        np.testing.assert_allclose(theirs[name], values, rtol=3e-5, atol=1e-5, err_msg=name)
