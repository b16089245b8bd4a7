"""The noise of weights: normal, independent, and the same for the same seed."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_extras.layers.variational.noise import random_signs, standard_normal


def draws(size=1_000_000, seed=(3, 4), dtype="float32"):
    return standard_normal(tf.zeros((size,), dtype), tf.constant(seed)).numpy()


def test_the_noise_is_standard_normal():
    values = draws()
    assert scipy.stats.kstest(values, "norm").pvalue > 1e-3
    assert abs(scipy.stats.zscore(values)).max() > 4.5
    assert abs((values**2).mean() - 1) < 5 * (2 / len(values)) ** 0.5


def test_pairs_made_of_one_random_integer_are_independent():
    first, second = np.split(draws(), 2)
    for power in (1, 2, 3, 4):
        correlation = np.corrcoef(first**power, second**power)[0, 1]
        assert abs(correlation) < 5 / len(first) ** 0.5
    assert scipy.stats.kstest((first + second) / 2**0.5, "norm").pvalue > 1e-3


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 4), ()])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_noise_follows_shape_dtype_and_seed(shape, dtype):
    like = tf.zeros(shape, dtype)
    noise, again = (standard_normal(like, tf.constant([1, 2])) for _ in range(2))
    assert noise.shape == like.shape
    assert noise.dtype == like.dtype
    assert np.isfinite(noise).all()
    np.testing.assert_array_equal(noise, again)
    assert not np.array_equal(noise, standard_normal(like, tf.constant([1, 3])))


def test_signs_are_fair():
    signs = random_signs(tf.ones((1000, 100)), (1000, 1), tf.constant([1, 2])).numpy()
    assert np.array_equal(np.unique(signs), [-1.0, 1.0])
    assert (signs == signs[:, :1]).all()
    assert abs(signs[:, 0].mean()) < 5 / 1000**0.5
