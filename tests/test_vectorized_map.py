"""Products of matrices that end the process on some processors do not come up."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_extras._core.vectorized_map import vectorized_map

CHILD = Path(__file__).with_name("products_in_child.py")


def test_derivatives_have_no_product_that_ends_the_process():
    """On any processor: the products of oneDNN are those that it tells of, not those that crash."""
    environment = {
        **os.environ,
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "ONEDNN_VERBOSE": "1",
        "PYTHONPATH": str(CHILD.parents[1]),
    }
    child = subprocess.run(
        [sys.executable, str(CHILD)], env=environment, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr[-2000:]
    products = re.findall(r"cpu,matmul,.*?,(\d+)x1x\d+x\d+:1x1x\d+x\d+", child.stdout)
    assert set(products) <= {"1"}, child.stdout


@pytest.mark.parametrize("shape", [(5, 4), (1, 5, 4), (2, 5, 4), (2, 1, 5, 4)])
@pytest.mark.parametrize("matrix", [(4, 3), (1, 4, 3), (2, 4, 3)])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_are_those_of_tensorflow(shape, matrix, transposed):
    draw = np.random.default_rng(0).normal
    elements = draw(size=(6, *shape)).astype("float32")
    factor = draw(size=matrix).astype("float32")
    if transposed:
        elements, factor = np.swapaxes(elements, -1, -2), np.swapaxes(factor, -1, -2)
    expected = np.stack([tf.matmul(e, factor, transposed, transposed) for e in elements])
    received = vectorized_map(
        lambda e: tf.matmul(e, factor, transpose_a=transposed, transpose_b=transposed), elements
    )
    np.testing.assert_allclose(received, expected, atol=1e-5)
    assert tf.matmul is tf.linalg.matmul  # as it was


def test_one_element_is_a_tensor_too():
    received = vectorized_map(lambda e: {"square": tf.square(e), "is": tf.is_tensor(e)}, np.ones(1))
    np.testing.assert_array_equal(received["square"], [1.0])
    np.testing.assert_array_equal(received["is"], [True])
