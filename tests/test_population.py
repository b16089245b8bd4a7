import keras
import numpy as np
import pytest
from keras import ops

from keras_extras.optimizers.noise import NOISE
from keras_extras.optimizers.population import evaluate_population


@pytest.mark.parametrize("chunk_size", [None, 1, 3, 4, 12, 50])
def test_equals_one_by_one_evaluation(chunk_size):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(12, 3, 2)), rng.normal(size=(12, 2))
    losses = evaluate_population(
        lambda candidate: ops.sum(candidate[0] ** 2) + ops.sum(candidate[1]),
        [ops.convert_to_tensor(a, "float32"), ops.convert_to_tensor(b, "float32")],
        chunk_size,
    )
    expected = (a**2).sum((1, 2)) + b.sum(1)
    np.testing.assert_allclose(ops.convert_to_numpy(losses), expected, rtol=1e-5)


def test_non_finite_losses_become_nan():
    losses = evaluate_population(
        lambda candidate: 1.0 / candidate[0], [ops.convert_to_tensor([0.0, 1.0, np.nan])]
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(losses), [np.nan, 1.0, np.nan])


@pytest.mark.parametrize("noise", NOISE)
def test_noise_has_mean_zero_variance_one_and_no_correlation(noise):
    draws = 40_000
    values = NOISE[noise]((draws, 3, 10), keras.random.SeedGenerator(7))
    values = ops.convert_to_numpy(values).reshape(draws, 30)
    bound = 4.5 / np.sqrt(draws)
    assert np.abs(values.mean(0)).max() < bound
    covariance = values.T @ values / draws
    assert np.abs(covariance - np.eye(30)).max() < 1.5 * bound
    if noise == "sign":
        assert set(np.unique(values)) == {-1.0, 1.0}
