"""Heads and Bayesian layers on several devices, trained for another test file."""

import json

import jax
import keras
import numpy as np

from keras_extras import layers, losses, metrics

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = 2.0 * X[:, :1]


def losses_of(dense, num_devices):
    """The losses of three epochs with the batch shared out, two steps in a call."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    devices = jax.devices()[:num_devices]
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    model = keras.Sequential([keras.Input((4,)), dense(), layers.IndependentNormal(1)])
    model.compile(
        keras.optimizers.Adam(0.05),
        losses.NegativeLogLikelihood(),
        metrics=[metrics.IntervalCoverage()],
        steps_per_execution=2,
    )
    history = model.fit(X, Y, batch_size=16, epochs=3, shuffle=False, verbose=0).history
    assert model(X).mean().shape == model.predict(X, verbose=0).shape == (64, 1)
    return history["loss"]


if __name__ == "__main__":
    kinds = {
        "head": lambda: keras.layers.Dense(2),
        "Bayesian": lambda: layers.DenseFlipout(2, kl_weight="auto"),
    }
    print(json.dumps({name: [losses_of(kind, n) for n in (1, 4)] for name, kind in kinds.items()}))
