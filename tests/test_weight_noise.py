"""The noise of weights: normal, independent, and the same for the same seed."""

import keras
import numpy as np
import pytest
import scipy.stats
from keras import ops
from precision import needs_float64, needs_tensorflow

from keras_extras.layers.variational.noise import draw_standard_normal, random_signs

pytestmark = pytest.mark.both_backends(cases=0)


def draw(like, seed):
    return draw_standard_normal(like, keras.random.SeedGenerator(seed))


def draws():
    return ops.convert_to_numpy(draw(ops.zeros(1_000_000), 3))


def test_the_noise_is_standard_normal():
    values = draws()
    assert scipy.stats.kstest(values, "norm").pvalue > 1e-3
    assert abs(scipy.stats.zscore(values)).max() > 4.5
    assert abs((values**2).mean() - 1) < 5 * (2 / len(values)) ** 0.5


@needs_tensorflow
def test_pairs_made_of_one_random_integer_are_independent():
    first, second = np.split(draws(), 2)
    for power in (1, 2, 3, 4):
        correlation = np.corrcoef(first**power, second**power)[0, 1]
        assert abs(correlation) < 5 / len(first) ** 0.5
    assert scipy.stats.kstest((first + second) / 2**0.5, "norm").pvalue > 1e-3


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 4), ()])
@pytest.mark.parametrize(
    "dtype", ["float16", "float32", pytest.param("float64", marks=needs_float64)]
)
def test_the_noise_follows_shape_dtype_and_seed(shape, dtype):
    like = ops.zeros(shape, dtype)
    noise, again = draw(like, 1), draw(like, 1)
    assert noise.shape == like.shape
    assert noise.dtype == like.dtype
    assert np.isfinite(noise).all()
    np.testing.assert_array_equal(noise, again)
    assert not np.array_equal(noise, draw(like, 2))


def test_signs_are_fair():
    signs = random_signs(ops.ones((1000, 100)), (1000, 1), keras.random.SeedGenerator(1))
    signs = ops.convert_to_numpy(signs)
    assert np.array_equal(np.unique(signs), [-1.0, 1.0])
    assert (signs == signs[:, :1]).all()
    assert abs(signs[:, 0].mean()) < 5 / 1000**0.5
