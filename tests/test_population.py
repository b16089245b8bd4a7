import keras
import numpy as np
import pytest
from keras import ops

from keras_extras.optimizers import MonteCarloOptimizer, PopulationOptimizer
from keras_extras.optimizers.candidate_map import CandidateMap
from keras_extras.optimizers.directions import DIRECTIONS, dense
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


def drawn(noise, count, shapes, seed):
    directions = DIRECTIONS[noise](count, shapes, keras.random.SeedGenerator(seed))
    return [ops.convert_to_numpy(dense(values)) for values in directions.draw(0, count)]


@pytest.mark.parametrize("noise", DIRECTIONS)
def test_directions_have_mean_zero_variance_one_and_no_correlation(noise):
    draws = 40_000
    values = drawn(noise, draws, [(3, 8), (6,)], 7)
    assert [tuple(v.shape) for v in values] == [(draws, 3, 8), (draws, 6)]
    values = np.concatenate([np.reshape(v, (draws, -1)) for v in values], axis=1)
    bound = 4.5 / np.sqrt(draws)
    assert np.abs(values.mean(0)).max() < bound
    covariance = values.T @ values / draws
    assert np.abs(covariance - np.eye(30)).max() < 1.5 * bound
    if noise != "normal":
        assert set(np.unique(values)) == {-1.0, 1.0}


@pytest.mark.parametrize(("count", "size"), [(16, 64), (8, 64), (1, 5)])
def test_directions_are_orthogonal(count, size):
    """Each measures what the others do not."""
    directions = drawn("orthogonal", count, [(size // 2,), (size - size // 2,)], 3)
    directions = np.concatenate(directions, axis=1)
    np.testing.assert_allclose(directions @ directions.T, size * np.eye(count), atol=1e-4)


def test_with_as_many_directions_as_weights_the_estimate_is_exact():
    directions = drawn("orthogonal", 8, [(2, 3), (2,)], 3)
    directions = np.concatenate([np.reshape(d, (8, -1)) for d in directions], axis=1)
    gradient = np.arange(8.0)
    np.testing.assert_allclose((directions @ gradient) @ directions / 8, gradient, atol=1e-5)


def test_orthogonal_directions_estimate_with_less_variance():
    gradient = np.random.default_rng(0).normal(size=96)

    def errors(kind):
        draws = [drawn(kind, 64, [(96,)], seed)[0] for seed in range(50)]
        return [np.sum(((d @ gradient) @ d / 64 - gradient) ** 2) for d in draws]

    # With n directions of N weights: (N / n - 1) |g|^2 against (N - 1) / n |g|^2.
    ratio = np.mean(errors("orthogonal")) / np.mean(errors("sign"))
    assert ratio < 0.5, f"ratio={ratio}, expected about {(96 / 64 - 1) / (95 / 64):.2f}"


def test_orthogonal_directions_do_not_depend_on_chunks():
    count, shapes = 48, [(5, 4), (7,)]
    whole = drawn("orthogonal", count, shapes, 3)
    directions = DIRECTIONS["orthogonal"](count, shapes, keras.random.SeedGenerator(3))
    parts = [directions.draw(start, 16) for start in range(0, count, 16)]
    for values, *pieces in zip(whole, *parts):
        np.testing.assert_array_equal(values, np.concatenate(pieces))


def test_memory_of_a_candidate_counts_weights_and_activations():
    x = ops.ones((100, 20))
    size = CandidateMap("a", "auto").candidate_bytes(
        lambda w: ops.sum(ops.relu(ops.matmul(x, w[0]))), [(20, 30)]
    )
    assert 4 * (600 + 2 * 3000) <= size <= 3 * 4 * (600 + 2 * 3000)


@pytest.mark.parametrize(
    ("auto", "pairs", "chunk"),
    [
        (48, 128, 32),  # 4 parts are nearer to 5 1/3 than 8
        (64, 128, 32),
        (256, 128, 128),
        (1_000, 128, 128),
        (48, 127, 22),  # a prime, which has no equal parts
        (16, 10, 10),  # 1 is near to 1 1/4
    ],
)
def test_automatic_chunks_are_of_equal_size_where_they_can_be(auto, pairs, chunk):
    optimizer = MonteCarloOptimizer()
    optimizer._auto_chunk = auto
    assert optimizer.chunk_of(None, [], pairs, members=2) == chunk


@pytest.mark.parametrize(
    "asked", [[np.zeros((4, 2)), np.zeros((4, 2))], ([np.zeros((4, 2))] * 2, None), None]
)
def test_ask_returns_candidates_and_what_tell_needs(asked):
    class Search(PopulationOptimizer):
        def build_search(self, coordinates):
            pass

        def ask(self):
            return asked

    optimizer = Search(0.1, None, None, 1, 0, keep="current", chunk_size=None, seed=1)
    w = keras.Variable([3.0, -2.0])
    with pytest.raises(ValueError, match=r"`ask` of Search must return a tuple.*Received: "):
        optimizer.minimize(lambda: ops.sum(w**2), [w])
