"""`noise="low_rank"`, and the canary of the seam that lets layers share work between candidates."""

from functools import partial

import keras
import numpy as np
import pytest
from keras import layers, ops
from precision import ON_JAX
from tiers import UNCOMPILED, quick

from keras_extras._seams.low_rank_kernels import LowRankKernel, RankOne, low_rank_kernels
from keras_extras.optimizers import SPSA, MonteCarloOptimizer

IMAGES = np.random.default_rng(0).normal(size=(3, 8, 6, 4)).astype("float32")
RNG = np.random.default_rng(1)

CASES = {
    "dense": lambda: layers.Dense(5, activation="tanh"),
    "dense without bias": lambda: layers.Dense(5, use_bias=False),
    "convolution": lambda: layers.Conv2D(5, 3, strides=2, activation="relu"),
    "same padding": lambda: layers.Conv2D(5, 3, padding="same", dilation_rate=2, use_bias=False),
    "causal": lambda: keras.Sequential(
        [layers.Reshape((48, 4)), layers.Conv1D(5, 3, padding="causal")]
    ),
    "volume": lambda: keras.Sequential([layers.Reshape((2, 4, 6, 4)), layers.Conv3D(3, 2)]),
    "groups": lambda: layers.Conv2D(4, 3, groups=2),
    "other layers": lambda: layers.EinsumDense("abcd,de->abce", (8, 6, 5), bias_axes="e"),
    "mixed precision": lambda: layers.Dense(5, dtype="mixed_bfloat16"),
}


def change_of(kernel):
    """A change of rank one, the sum, and what is written for the layers."""
    left = RNG.normal(size=(*kernel.shape[:-1], 1)).astype("float32")
    right = RNG.normal(size=(1,) * (len(kernel.shape) - 1) + kernel.shape[-1:]).astype("float32")
    change = RankOne(ops.convert_to_tensor(left), ops.convert_to_tensor(right))
    return ops.add(kernel, change.product), LowRankKernel(ops.copy(kernel), change)


@pytest.mark.both_backends
@pytest.mark.parametrize("case", CASES)
def test_a_layer_gives_what_it_gives_with_the_sum(case):
    layer = CASES[case]()
    layer(IMAGES)
    kernel = next(v for v in layer.trainable_variables if len(v.shape) > 1)
    total, low_rank = change_of(kernel)
    mapping = [(kernel, total)]
    with keras.StatelessScope(mapping):
        expected = ops.convert_to_numpy(ops.cast(layer(IMAGES), "float32"))
    with low_rank_kernels({id(kernel): low_rank}), keras.StatelessScope(mapping):
        actual = ops.convert_to_numpy(ops.cast(layer(IMAGES), "float32"))
    tolerance = 0.1 if case == "mixed precision" else 1e-4
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
    assert np.any(actual != ops.convert_to_numpy(ops.cast(layer(IMAGES), "float32")))


@pytest.mark.both_backends
@pytest.mark.parametrize("layer", [layers.Dense(5), layers.Conv2D(5, 3)])
def test_the_layers_still_pass_through_the_seam(layer):
    """They compute with both terms, and never read the sum."""
    layer(IMAGES)
    _, low_rank = change_of(layer.kernel)
    poisoned = [(layer.kernel, ops.full(layer.kernel.shape, float("nan")))]
    with low_rank_kernels({id(layer.kernel): low_rank}), keras.StatelessScope(poisoned):
        assert np.all(np.isfinite(ops.convert_to_numpy(layer(IMAGES))))


@pytest.mark.both_backends
def test_the_seam_leaves_nothing_behind():
    before = layers.Dense.call, layers.Conv2D.convolution_op
    with pytest.raises(KeyError), low_rank_kernels({}):
        raise KeyError
    assert (layers.Dense.call, layers.Conv2D.convolution_op) == before


def images_model(optimizer, loss="mse", **compile_arguments):
    keras.utils.set_random_seed(2)
    shared = layers.Dense(4, kernel_constraint="non_neg")
    inputs = keras.Input((8, 6, 4))
    hidden = layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2")(inputs)
    hidden = layers.GlobalAveragePooling2D()(hidden)
    outputs = layers.Dense(1)(shared(ops.relu(shared(hidden))))
    model = keras.Model(inputs, outputs)
    model.compile(optimizer, loss, **{**UNCOMPILED, **compile_arguments})
    return model


@pytest.mark.both_backends
@pytest.mark.parametrize("jit_compile", quick([False, True], ON_JAX))
@pytest.mark.parametrize(
    "make",
    [pytest.param(SPSA, marks=pytest.mark.slow), partial(MonteCarloOptimizer, population_size=64)],
)
def test_trains_layers_shared_constrained_and_regularized(make, jit_compile):
    x = np.random.default_rng(3).normal(size=(64, 8, 6, 4)).astype("float32")
    y = x.mean((1, 2, 3))[:, None] * 10 + 2
    optimizer = make(0.03, noise="low_rank", sigma=0.02, seed=1, update_probability=0.9)
    model = images_model(optimizer, jit_compile=jit_compile)
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, batch_size=32, epochs=40, verbose=0)
    assert model.evaluate(x, y, verbose=0) < 0.9 * before
    assert model.get_weights()[2].min() >= 0


def test_the_estimate_is_an_unbiased_gradient():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 32, 6)).astype("float32")
    target = np.concatenate([y, y[:, :2]], axis=1)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8)])
    kernel, bias = model.trainable_variables
    # Of Adam's first moment after one step, a tenth of the estimate.
    optimizer = MonteCarloOptimizer(1e-9, 20_000, noise="low_rank", sigma=0.01, seed=1)
    optimizer.minimize(lambda: ops.mean((model(x) - target) ** 2), [kernel, bias])
    momentum = [v.numpy() / (1 - 0.9) for v in optimizer.variables if "momentum" in v.path]
    residual = 2 * (x @ kernel.numpy() - target) / target.size
    for estimate, exact in zip(momentum, (x.T @ residual, residual.sum(0))):
        # Each entry has a standard error of about the norm of the gradient over 100.
        np.testing.assert_allclose(estimate, exact, atol=4 * np.linalg.norm(x.T @ residual) / 100)
