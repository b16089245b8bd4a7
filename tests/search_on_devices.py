"""What `test_devices.py` runs in a process of its own, which has several devices."""

import json
import sys

import keras
import numpy as np

from keras_extras.optimizers import CMAES, LBFGS, MonteCarloOptimizer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype("float32")
Y = (X @ RNG.normal(size=(4, 1)) + 0.5).astype("float32")
MAKE = {
    "batch": lambda: MonteCarloOptimizer(0.05, 32, seed=0),
    "population": lambda: MonteCarloOptimizer(0.05, 32, shard="population", seed=0),
    "population in chunks": lambda: MonteCarloOptimizer(
        0.05, 32, shard="population", noise="low_rank", chunk_size=10, seed=0
    ),
    "one pair": lambda: MonteCarloOptimizer(0.01, 2, seed=0),
    "cma_es": lambda: CMAES(seed=0),
    "lbfgs": lambda: LBFGS(iterations_per_batch=3),
}


def trained(kind, devices=None):
    """Loss and weights after two epochs, and the operations of a step on each device."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    distribution = devices and keras.distribution.DataParallel(
        devices=devices, auto_shard_dataset=False
    )
    keras.distribution.set_distribution(distribution)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(256, "tanh"), keras.layers.Dense(1)]
    )
    model.compile(MAKE[kind](), "mse", jit_compile=True)
    history = model.fit(X, Y, batch_size=32, epochs=2, shuffle=False, verbose=0).history
    return {
        "loss": history["loss"],
        "weights": [w.tolist() for w in model.get_weights()],
    }


if __name__ == "__main__":
    kind = sys.argv[1]
    devices = keras.distribution.list_devices()
    print(json.dumps([trained(kind), trained(kind, devices)]))
