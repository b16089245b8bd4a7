"""Searches under every dtype policy: they lower the loss, and keep their state precise enough."""

import keras
import numpy as np
import pytest
from precision import WIDE
from tiers import UNCOMPILED, quick

from keras_extras.optimizers import (
    CMAES,
    SPSA,
    MonteCarloOptimizer,
    PartitionedOptimizer,
    priors,
    transforms,
)

pytestmark = pytest.mark.both_backends

X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
Y = 2.0 * X[:, :1]

OPTIMIZERS = {
    "MonteCarloOptimizer": lambda: MonteCarloOptimizer(0.05, seed=1),
    "SPSA": lambda: SPSA(0.05, sigma=0.1, seed=1),
    "with all options": lambda: MonteCarloOptimizer(
        0.05,
        keep="best",
        priors={"*kernel": priors.Normal()},
        num_prior_samples=8,
        transforms={"*bias": transforms.Bounds(-1.0, 1.0)},
        chunk_size=100,
        seed=1,
    ),
    "CMAES": lambda: CMAES(seed=1),
    "CMAES with restarts": lambda: CMAES(seed=1, keep="best", restarts=1),
    "PartitionedOptimizer": lambda: PartitionedOptimizer(
        {"*kernel": MonteCarloOptimizer(0.05, seed=1), "*": keras.optimizers.Adam(0.05)}
    ),
}


@pytest.mark.parametrize("policy", [*quick(["float16", "mixed_bfloat16"]), "bfloat16", WIDE])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_searches_lower_the_loss_in_every_precision(name, policy):
    if policy == "float64":
        keras.config.set_floatx(policy)
    keras.config.set_dtype_policy(policy)
    try:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(OPTIMIZERS[name](), "mse", **UNCOMPILED)
        before = model.evaluate(X, Y, verbose=0)
        model.fit(X, Y, batch_size=16, epochs=8, verbose=0)
        assert model.evaluate(X, Y, verbose=0) < 0.85 * before
    finally:
        keras.config.set_floatx("float32")
