"""Constraints of Keras in searches: least squares reach the constrained optimum."""

import keras
import numpy as np
import pytest
from scipy import optimize

from keras_extras.optimizers import CMAES, MonteCarloOptimizer

_X = np.random.default_rng(0).normal(size=(60, 8)).astype("float32")
_Y = (_X @ np.array([[1.0], [-2.0], [0.5], [0.0], [3.0], [-1.0], [-0.5], [2.0]])).astype("float32")


def _least_squares(**constraint):
    """The optimum by SciPy, which keeps a constraint by Lagrange multipliers."""
    loss = lambda w: np.mean((_X @ w - _Y[:, 0]) ** 2)  # noqa: E731
    return optimize.minimize(loss, np.full(8, 0.1), tol=1e-12, **constraint).fun


CONSTRAINED = {
    "NonNeg": (lambda: keras.constraints.NonNeg(), {"bounds": [(0, None)] * 8}),
    "MaxNorm": (
        lambda: keras.constraints.MaxNorm(1.5),
        {"constraints": {"type": "ineq", "fun": lambda w: 1.5**2 - w @ w}},
    ),
    "UnitNorm": (
        lambda: keras.constraints.UnitNorm(),
        {"constraints": {"type": "eq", "fun": lambda w: 1 - w @ w}},
    ),
    "MinMaxNorm": (
        lambda: keras.constraints.MinMaxNorm(0.5, 1.0),
        {"constraints": {"type": "eq", "fun": lambda w: 1 - w @ w}},
    ),
}


@pytest.mark.parametrize(
    ("search", "name", "keep"),
    [
        *((CMAES, name, "current") for name in CONSTRAINED),
        (CMAES, "NonNeg", "average"),
        # Its distance from the kinks of `NonNeg` is that of its learning rate.
        *((MonteCarloOptimizer, name, "current") for name in CONSTRAINED if name != "NonNeg"),
        (MonteCarloOptimizer, "MaxNorm", "average"),
    ],
)
def test_constrained_least_squares_reach_the_optimum(search, name, keep):
    make, reference = CONSTRAINED[name]
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        dense = keras.layers.Dense(1, use_bias=False, kernel_constraint=make())
        model = keras.Sequential([keras.Input((8,)), dense])
        optimizer = search(seed=seed, keep=keep)
        model.compile(optimizer, "mse", jit_compile=False, steps_per_execution=20)
        model.fit(
            np.tile(_X, (20, 1)),
            np.tile(_Y, (20, 1)),
            batch_size=60,
            epochs=2 if search is CMAES else 50,
            verbose=0,
            shuffle=False,
        )
        kernel = np.asarray(dense.kernel)
        np.testing.assert_allclose(np.asarray(make()(kernel)), kernel, atol=1e-5)
        loss = model.evaluate(_X, _Y, batch_size=60, verbose=0)
        assert loss == pytest.approx(_least_squares(**reference), rel=1e-3)
        if search is CMAES:
            assert optimizer.search_state()["width"] < 1.0
