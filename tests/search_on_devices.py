"""What `test_devices.py` runs in a process of its own, which has several devices."""

import json

import jax
import keras
import numpy as np

from keras_extras.optimizers import MonteCarloOptimizer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype("float32")
Y = (X @ RNG.normal(size=(4, 1)) + 0.5).astype("float32")


def network(population_size=32, **arguments):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(256, "tanh"), keras.layers.Dense(1)]
    )
    optimizer = MonteCarloOptimizer(
        0.05, population_size, noise="low_rank", chunk_size=10, curvature=None, seed=0, **arguments
    )
    model.compile(optimizer, "mse", jit_compile=True)
    return model


def trained(**arguments):
    """Loss and weights after two epochs, and how many operations one device does in a step."""
    model = network(**arguments)
    history = model.fit(X, Y, batch_size=32, epochs=2, shuffle=False, verbose=0).history
    state = model._get_jax_state(True, True, True, True)
    step = jax.jit(model.train_step).lower(state, (shared_out(X[:32]), shared_out(Y[:32])))
    return {
        "loss": history["loss"],
        "weights": [w.tolist() for w in model.get_weights()],
        "operations": step.compile().cost_analysis()["flops"],
    }


def shared_out(rows):
    distribution = keras.distribution.distribution()
    if distribution is None:
        return rows
    layout = distribution.get_data_layout(rows.shape)
    return keras.distribution.distribute_tensor(rows, layout)


def error_of(function):
    try:
        function()
    except ValueError as error:
        return str(error)


def more_devices_than_there_are():
    distribution = keras.distribution.DataParallel(devices=[f"cpu:{i}" for i in range(8)])
    with distribution.scope():
        network()


if __name__ == "__main__":
    devices = keras.distribution.list_devices()
    results = {"one": trained()}
    distribution = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    with distribution.scope():
        results["batch"] = trained()
        results["population"] = trained(shard="population")
        model = network(6, shard="population")
        results["indivisible"] = error_of(lambda: model.fit(X, Y, batch_size=32, verbose=0))
    results["too many"] = error_of(more_devices_than_there_are)
    print(json.dumps(results))
