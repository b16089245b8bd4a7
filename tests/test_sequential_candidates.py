"""Losses that no vectorized map can evaluate: candidates one after another."""

import keras
import numpy as np
import pytest
from keras import ops
from precision import ON_JAX

from keras_extras.optimizers import CMAES, SPSA, MonteCarloOptimizer, PartitionedOptimizer
from keras_extras.optimizers.candidate_map import CandidateMap

tf = None if ON_JAX else pytest.importorskip("tensorflow")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 3)).astype("float32")
Y = X @ np.array([[1.0], [-2.0], [0.5]], "float32")


def in_numpy(y_true, y_pred):
    """Needs values: `run_eagerly=True`."""
    wrong = ops.convert_to_numpy(y_true) - ops.convert_to_numpy(y_pred)
    return ops.convert_to_tensor(np.mean(np.abs(wrong), dtype="float32"))


def on_the_host(y_true, y_pred):
    """The same from within a compiled step."""

    def mean_error(y_true, y_pred):
        return np.mean(np.abs(y_true - y_pred), dtype="float32")

    if ON_JAX:
        import jax

        return jax.pure_callback(mean_error, jax.ShapeDtypeStruct((), "float32"), y_true, y_pred)
    return tf.ensure_shape(tf.numpy_function(mean_error, [y_true, y_pred], "float32"), ())


def by_index(y_true, y_pred):
    """The mean over the rows of positive predictions, of another number in each candidate."""
    wrong = ops.abs(y_true - y_pred)
    chosen = wrong[y_pred > 0.0]
    return ops.sum(wrong) / 32.0 + 0.1 * ops.mean(ops.concatenate([chosen, ops.zeros(1)]))


def by_index_vectorized(y_true, y_pred):
    wrong = ops.abs(y_true - y_pred)
    chosen = ops.cast(y_pred > 0.0, "float32")
    return ops.sum(wrong) / 32.0 + 0.1 * ops.sum(wrong * chosen) / (ops.sum(chosen) + 1.0)


def optimizers():
    return {
        "monte_carlo": MonteCarloOptimizer(0.05, 8, seed=1),
        "chunks": MonteCarloOptimizer(0.05, 8, chunk_size=4, keep="best", curvature=None, seed=1),
        "low_rank": MonteCarloOptimizer(0.05, 8, noise="low_rank", curvature=None, seed=1),
        "spsa": SPSA(0.01, sigma=0.1, seed=1),
        "cma_es": CMAES(population_size=6, chunk_size=2, seed=1),
        "partitioned": PartitionedOptimizer(
            {
                "*/kernel": MonteCarloOptimizer(0.05, 4, curvature=None, seed=1),
                "*": MonteCarloOptimizer(0.05, 4, curvature=None, seed=2),
            }
        ),
    }


def weights_after_fit(optimizer, loss, **arguments):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, loss, **arguments)
    model.fit(X, Y, batch_size=32, epochs=2, verbose=0)
    return model.get_weights()


NUMPY = (in_numpy, "mae", {"run_eagerly": True})
HOST = (on_the_host, "mae", {})
INDEX = (by_index, by_index_vectorized, {"run_eagerly": ON_JAX})


@pytest.mark.both_backends
@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("monte_carlo", NUMPY),
        ("low_rank", NUMPY),
        ("spsa", NUMPY),
        ("chunks", HOST),
        ("cma_es", INDEX),
        ("partitioned", NUMPY),
    ],
)
def test_trains_as_with_a_vectorized_loss(name, case, caplog):
    loss, same, arguments = case
    weights = weights_after_fit(optimizers()[name], loss, **arguments)
    lines = [record.message for record in caplog.records if record.name == "keras_extras"]
    assert len(lines) == {"spsa": 0, "partitioned": 2}.get(name, 1)
    assert all("`vectorize=False`" in line for line in lines)
    expected = weights_after_fit(optimizers()[name], same)
    for ours, theirs in zip(weights, expected):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


SHAPED = [
    lambda t, p: tf.boolean_mask(t, p > 0.0),
    lambda t, p: tf.gather(t, tf.where(p > 0.0)[:, 0]),
    lambda t, p: tf.cast(tf.unique(tf.round(p)).idx, "float32"),
    lambda t, p: tf.unique(tf.round(p)).y,
    lambda t, p: tf.dynamic_partition(t, tf.cast(p > 0.0, "int32"), 2)[1],
    lambda t, p: tf.sort(p)[: tf.math.count_nonzero(p > 0.0)],
    lambda t, p: tf.repeat(t, tf.cast(p > 0.0, "int32")),
    lambda t, p: tf.math.segment_sum(t, tf.sort(tf.cast(p > 0.0, "int32") * 3)),
    lambda t, p: tf.cast(tf.math.bincount(tf.cast(tf.abs(p), "int32")), "float32"),
    lambda t, p: tf.function(lambda q: tf.boolean_mask(t, q > 0.0))(p),
    lambda t, p: tf.cond(p[0] > 0.0, lambda: tf.boolean_mask(t, p > 0.0), lambda: t),
    lambda t, p: tf.while_loop(
        lambda i, q: i < 3, lambda i, q: (i + 1, q + tf.reduce_sum(t[q > 0.0])), (0, p)
    )[1],
]
UNSHAPED = [
    lambda t, p: tf.boolean_mask(p, t > 0.0),
    lambda t, p: tf.unique(tf.round(t)).y[0] * p,
    lambda t, p: t[tf.argmax(p)],
    lambda t, p: tf.math.top_k(p, 3).values,
    lambda t, p: tf.math.unsorted_segment_sum(t, tf.cast(p > 0.0, "int32"), 2),
    lambda t, p: tf.scan(lambda total, v: total * p[0] + v, t),
    lambda t, p: tf.while_loop(lambda i, q: i < 3, lambda i, q: (i + 1, q + t[i]), (0, p))[1],
    lambda t, p: tf.zeros_like(p) + tf.cast(tf.shape(p)[0], "float32") * p,
]


@pytest.mark.parametrize("is_shaped", [True, False])
def test_which_losses_are_vectorized(is_shaped):
    """Those that keep their shapes; others fail in a map, or only for some candidates."""
    x, t = tf.constant(X), tf.constant(Y[:, 0])
    candidates = [tf.constant(RNG.normal(size=(4, 3)), "float32")]
    for selected in SHAPED if is_shaped else UNSHAPED:
        evaluate = CandidateMap("search", "auto")

        def loss_of(candidate, selected=selected):
            values = selected(t, tf.linalg.matvec(x, candidate[0]))
            return tf.reduce_sum(values) + tf.cast(tf.size(values), "float32")

        losses = tf.function(evaluate, autograph=False)(loss_of, candidates)
        assert evaluate.is_sequential == is_shaped
        expected = [loss_of([w]) for w in candidates[0]]
        np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_a_simulator_with_a_state_serves_one_candidate_at_a_time():
    """Vectorized, all candidates would reset it before the first takes a step."""
    state = []

    def reset(w):
        state[:] = [float(w)]
        return np.float32(w)

    def advance(started):
        state[0] *= 2.0
        return np.float32(state[0])

    def loss_fn():
        started = tf.numpy_function(reset, [w.value[0]], "float32")
        return tf.numpy_function(advance, [started], "float32")

    w = keras.Variable([3.0])
    optimizer = MonteCarloOptimizer(0.1, population_size=4, sigma=0.1, keep="best", seed=1)
    tf.function(lambda: optimizer.minimize(loss_fn, [w]))()
    np.testing.assert_allclose(w, [2.9], rtol=1e-5)


@pytest.mark.both_backends
def test_vectorize_false_and_true(caplog):
    """Without a look at the loss: one candidate after another, in order."""
    seen = []

    def loss_fn():
        seen.append(float(ops.convert_to_numpy(w.value)[0]))
        return ops.sum(w.value**2)

    w = keras.Variable([3.0])
    optimizer = CMAES(population_size=4, generations_per_batch=1, vectorize=False, seed=1)
    optimizer.minimize(loss_fn, [w])
    assert len(set(seen)) == len(seen) == 4
    assert not caplog.records
    assert optimizer.get_config()["vectorize"] is False
    with pytest.raises(ValueError, match="`vectorize` must be one of 'auto', True, False"):
        CMAES(vectorize="never")
    optimizer = CMAES(population_size=4, vectorize=True, seed=1)
    with pytest.raises(ValueError, match="`vectorize=False`"):
        optimizer.minimize(loss_fn, [w])


@pytest.mark.both_backends
def test_values_in_a_compiled_step_are_refused_with_both_ways_out():
    with pytest.raises(TypeError, match=r"`run_eagerly=True`, or .*_(function|callback)`") as info:
        weights_after_fit(MonteCarloOptimizer(population_size=4), in_numpy)
    assert "`vectorize=False`" in str(info.value)


@pytest.mark.both_backends
def test_mistakes_of_a_loss_are_raised_as_they_are():
    def loss(y_true, y_pred):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        weights_after_fit(MonteCarloOptimizer(population_size=4), loss)


def balanced_steps(states, kernel):
    """How many of 50 steps a linear policy balances poles on carts; the pole has two sides."""
    states, steps = np.array(states, "float64"), np.zeros(len(states))
    is_up = np.ones(len(states), bool)
    for _ in range(50):
        push = np.where(states @ kernel[:, 0] > 0.0, 10.0, -10.0)
        _, speed, angle, turn = states.T
        pull = (push + 0.05 * turn**2 * np.sin(angle)) / 1.1
        bend = 9.8 * np.sin(angle) - np.cos(angle) * pull
        bend /= 0.5 * (4.0 / 3.0 - 0.1 * np.cos(angle) ** 2 / 1.1)
        drive = pull - 0.05 * bend * np.cos(angle) / 1.1
        states = states + 0.02 * np.stack([speed, drive, turn, bend], axis=1)
        is_up &= (np.abs(states[:, 0]) < 2.4) & (np.abs(states[:, 2]) < 0.21)
        steps += is_up
    return steps.astype("float32")


class Episodes(keras.layers.Layer):
    """From first states to the steps that a linear policy balances."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(4, 1), initializer="zeros", name="kernel")

    def call(self, states):
        kernel = ops.convert_to_tensor(self.kernel)
        if ON_JAX:
            import jax

            form = jax.ShapeDtypeStruct(states.shape[:1], "float32")
            return jax.pure_callback(balanced_steps, form, states, kernel)
        steps = tf.numpy_function(balanced_steps, [states, kernel], "float32")
        return tf.ensure_shape(steps, states.shape[:1])


@pytest.mark.both_backends
def test_a_simulator_in_numpy_trains_a_policy():
    states = RNG.uniform(-0.05, 0.05, size=(8, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,), batch_size=8), Episodes()])
    optimizer = MonteCarloOptimizer(0.2, 16, sigma=0.5, keep="best", curvature=None, seed=1)
    model.compile(optimizer, loss=lambda y, steps: -ops.mean(steps))
    before = balanced_steps(states, np.zeros((4, 1))).mean()
    model.fit(states, np.zeros(8), batch_size=8, epochs=6, verbose=0)
    after = balanced_steps(states, model.get_weights()[0]).mean()
    assert before < 15
    assert after == 50
