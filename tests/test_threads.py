"""Fits, predictions and derivatives in several threads at once do what each does alone."""

import contextlib
import logging
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from precision import tf

import keras_extras
from keras_extras import autodiff, layers, optimizers
from keras_extras._seams.thread_replacement import ThreadReplacement

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X[:, :1]
IMAGES = np.random.default_rng(1).normal(size=(8, 6, 6, 1)).astype("float32")
WAIT = 60.0


def replaceable():
    """Everything that the package replaces for a time."""
    owners = [(keras.layers.Dense, "call"), (keras.layers.Conv2D, "convolution_op")]
    if keras.backend.backend() == "tensorflow":
        owners += [(tf, "matmul"), (tf.linalg, "matmul"), (tf.Tensor, "__matmul__")]
        owners += [(tf.nn, "moments"), (tf.nn, "softsign"), (tf.image, "resize")]
    return [getattr(owner, name) for owner, name in owners]


@pytest.fixture(autouse=True)
def everything_is_back():
    before = replaceable(), keras.config.floatx(), list(logging.getLogger("tensorflow").filters)
    yield
    assert (replaceable(), keras.config.floatx(), logging.getLogger("tensorflow").filters) == before


def in_threads(*functions):
    """The results of functions that run at once."""
    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result() for future in [pool.submit(f) for f in functions]]


@pytest.mark.both_backends
@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_blocks_of_two_threads_overlap(first_to_leave):
    module = types.SimpleNamespace(function=lambda: "original")
    original = module.function
    replacement = ThreadReplacement(
        "test", lambda: [(module, "function", lambda f: lambda: (f(), replacement.value))]
    )
    both_in, one_left = threading.Barrier(3, timeout=WAIT), threading.Event()

    def block(number):
        with replacement.within(number):
            both_in.wait()
            if number != first_to_leave:
                assert one_left.wait(WAIT)
            inside = module.function()
        if number == first_to_leave:
            one_left.set()
        return inside, module.function()

    def other():
        both_in.wait()
        return module.function()

    expected = [(("original", number), "original") for number in (0, 1)]
    assert in_threads(lambda: block(0), lambda: block(1), other) == [*expected, "original"]
    assert module.function is original


@pytest.mark.both_backends
def test_a_block_within_a_block_and_a_wrapper_of_another_library():
    module = types.SimpleNamespace(function=lambda: "original")
    replacement = ThreadReplacement(
        "test", lambda: [(module, "function", lambda f: lambda: "ours")]
    )
    with replacement.within():
        with replacement.within():
            assert module.function() == "ours"
        assert module.function() == "ours"
        wrapped = module.function
        module.function = lambda: wrapped() + " wrapped"
    assert module.function() == "original wrapped"
    with pytest.raises(KeyError), replacement.within():
        raise KeyError
    assert module.function() == "original wrapped"


class Meeting:
    """A loss that waits, in its first calls, until the other fit is as far."""

    def __init__(self, parties=2, calls=3):
        self.barrier = threading.Barrier(parties)
        self.left = threading.local()
        self.calls = calls

    def __call__(self, y, y_pred):
        left = getattr(self.left, "calls", self.calls)
        self.left.calls = left - 1
        if left > 0:
            with contextlib.suppress(threading.BrokenBarrierError):
                self.barrier.wait(5.0)
        return keras.ops.mean((y - y_pred) ** 2)


def images_model(seed):
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(2, 3, kernel_initializer=keras.initializers.GlorotNormal(seed)),
            keras.layers.Flatten(),
            keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotNormal(seed + 1)),
        ]
    )


def searched(seed, loss):
    model = images_model(seed)
    optimizer = optimizers.MonteCarloOptimizer(0.05, 4, noise="low_rank", seed=seed)
    model.compile(optimizer, loss, jit_compile=False)
    model.fit(IMAGES, IMAGES[:, 0, 0], batch_size=4, epochs=2, shuffle=False, verbose=0)
    return model.get_weights(), model.predict(IMAGES, verbose=0)


def assert_equal(received, expected):
    for a, b in zip(keras.tree.flatten(received), keras.tree.flatten(expected), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.both_backends
def test_two_searches_at_once():
    alone = [searched(seed, "mse") for seed in (1, 3)]
    loss = Meeting()
    assert_equal(in_threads(lambda: searched(1, loss), lambda: searched(3, loss)), alone)


def stock(loss="mse"):
    model = images_model(5)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    model.fit(IMAGES, IMAGES[:, 0, 0], batch_size=4, epochs=2, shuffle=False, verbose=0)
    return model.get_weights(), model.predict(IMAGES, verbose=0)


@pytest.mark.both_backends
def test_a_stock_fit_begins_and_ends_while_a_search_evaluates_candidates():
    alone, inside, is_done = stock(), threading.Event(), threading.Event()

    def loss(y, y_pred):
        inside.set()
        is_done.wait(WAIT)
        return keras.ops.mean((y - y_pred) ** 2)

    def beside():
        assert inside.wait(WAIT)
        result = stock()
        is_done.set()
        return result

    (_, received) = in_threads(lambda: searched(1, loss), beside)
    assert_equal(received, alone)


def curvature(dtype="float32", meet=lambda: None):
    """Second derivatives through everything that is replaced for them."""
    model = keras.Sequential(
        [
            keras.Input((3,), dtype=dtype),
            keras.layers.Dense(2, "softsign", dtype=dtype, kernel_initializer="ones"),
            keras.layers.BatchNormalization(dtype=dtype),
            keras.layers.Dense(1, dtype=dtype, kernel_initializer="ones"),
        ]
    )

    def loss(y, y_pred):
        meet()
        return keras.ops.mean((keras.ops.cast(y, y_pred.dtype) - y_pred) ** 2)

    return np.asarray(autodiff.hessian(model, X, Y, loss=loss, training=True))


def test_second_derivatives_of_two_threads():
    alone = curvature(), curvature("float64")
    barrier = threading.Barrier(2)

    def meet():
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(2.0)

    together = in_threads(lambda: curvature(meet=meet), lambda: curvature("float64", meet))
    for received, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def test_eight_threads_predict_with_one_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), layers.DenseFlipout(2), layers.IndependentNormal(1)]
    )

    def predicted(seed):
        prediction = keras_extras.predict_distribution(model, X, num_samples=8, seed=seed)
        return np.asarray(prediction.mean()), np.asarray(prediction.quantile(0.9))

    alone = [predicted(seed) for seed in range(8)]
    assert_equal(in_threads(*[lambda seed=seed: predicted(seed) for seed in range(8)]), alone)
    outputs = in_threads(*[lambda: model.predict(X, verbose=0) for _ in range(8)])
    assert all(np.isfinite(output).all() for output in outputs)


def test_what_other_threads_log_is_kept():
    from keras_extras.autodiff.backend.tensorflow import _quiet

    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logging.getLogger("tensorflow").addHandler(handler)
    try:
        with _quiet():
            in_threads(lambda: logging.getLogger("tensorflow").error("of another"))
            logging.getLogger("tensorflow").error("of this")
        logging.getLogger("tensorflow").error("behind")
    finally:
        logging.getLogger("tensorflow").removeHandler(handler)
    assert records == ["of another", "behind"]


def test_layers_are_looked_through_by_two_threads():
    model = images_model(7)
    expected = model.predict(IMAGES, verbose=0)

    def blocking():
        return autodiff.blocking_layers.blocking_layers(model, IMAGES)

    found = in_threads(blocking, lambda: np.asarray(model(IMAGES)), blocking)
    assert found[0] == found[2] == []
    np.testing.assert_allclose(found[1], expected, rtol=1e-6)
    assert not any("call" in vars(layer) for layer in model.layers)
