"""Derivatives of layers with products of matrices, to be computed in a process of their own."""

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from keras_extras import autodiff, inference

layers = keras.layers


class Operator(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2))

    def call(self, x):
        return tf.linalg.matmul(x @ self.kernel, self.kernel, transpose_b=True)


LAYERS = {
    "MultiHeadAttention": lambda x: layers.MultiHeadAttention(2, 2)(x, x),
    "Attention": lambda x: layers.Attention()([x, layers.Dense(3)(x)]),
    "Operator": Operator(),
}


def jacobian_by_tape(model, x):
    """One row and one entry after another: `(rows, entries, weights)`."""
    rows = []
    for row in x:
        with tf.GradientTape(persistent=True) as tape:
            entries = tf.unstack(model(row[None])[0])
        rows.append([tape.gradient(entry, model.trainable_variables) for entry in entries])
    return np.array([[np.concatenate([np.ravel(g) for g in e]) for e in row] for row in rows])


def check(layer):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, layers.Flatten()(layer(inputs))[:, :1])
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    expected = jacobian_by_tape(model, x)
    print("ours", flush=True)
    parts = autodiff.jacobian(model, x, mode="reverse")
    received = np.concatenate([np.reshape(part, (2, 1, -1)) for part in parts], axis=-1)
    np.testing.assert_allclose(received, expected, atol=1e-5)
    one, other = (
        autodiff.jacobian(model, x[:1], wrt="inputs", mode=mode) for mode in ("forward", "reverse")
    )
    np.testing.assert_allclose(one, other, atol=1e-5)
    laplace = inference.LaplaceApproximation(
        model,
        x,
        np.zeros((2, 1)),
        hessian_structure="diag",
        likelihood=lambda outputs: tfd.Independent(tfd.Normal(outputs, 1.0), 1),
    )
    received = np.concatenate([np.ravel(part) for part in laplace.stddev()])
    expected = 1.0 / np.sqrt(1.0 + np.sum(np.square(expected), axis=(0, 1)))
    np.testing.assert_allclose(received, expected, atol=1e-5)


if __name__ == "__main__":
    for name, layer in LAYERS.items():
        print(name, flush=True)
        check(layer)
