"""Prints what stock programs come to: `python stock_programs.py stock` or `ours`.

With `ours` each object of the package that wraps a method of Keras is made first. A line for each
program holds the digest of the weights, the batches that were read in their order, and the logs.
"""

import hashlib
import json
import sys
import warnings

import keras
import numpy as np
import tensorflow as tf

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = X[:, :1]
SPEC = (tf.TensorSpec((None, 3)), tf.TensorSpec((None, 1)))
reads: list[int] = []


def make_ours():
    from keras_extras import layers, losses, metrics, optimizers

    optimizers.MonteCarloOptimizer()
    optimizers.LBFGS()
    optimizers.HypergradientAdam()
    losses.ZeroOneLoss()
    metrics.ExpectedCalibrationError()
    if keras.backend.backend() == "tensorflow":
        layers.DenseFlipout(2, kl_weight="auto")
        layers.IndependentNormal(1)
        optimizers.SGLD()


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        reads.append(index)
        return X[8 * index : 8 * index + 8], Y[8 * index : 8 * index + 8]


def stream():
    """A function whose generators share one pass over the data."""
    numbers = iter(range(10))

    def batches():
        for number in numbers:
            reads.append(number)
            yield X[4 * number : 4 * number + 4], Y[4 * number : 4 * number + 4]

    return batches


def streamed():
    return tf.data.Dataset.from_generator(stream(), output_signature=SPEC)


SOURCES = {
    "arrays": lambda: {"x": X, "y": Y, "batch_size": 8, "epochs": 2},
    "shuffled dataset": lambda: {
        "x": tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(40).batch(8),
        "epochs": 2,
    },
    "PyDataset": lambda: {"x": Batches(), "shuffle": False},
    "generator": lambda: {"x": stream()(), "steps_per_epoch": 5, "epochs": 2},
    "stream": lambda: {"x": streamed(), "steps_per_epoch": 10},
}


class Subclassed(keras.Model):
    """Has a variable of a name that the package uses, and targets in a tuple."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.training_set_size = self.add_weight(
            shape=(), initializer="ones", name="training_set_size", trainable=False
        )
        self.seen = []

    def call(self, inputs):
        return self.dense(inputs) * self.training_set_size

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return super().compute_loss(x, y, y_pred, sample_weight, training)


def sequential():
    return keras.Sequential(
        [keras.layers.Dense(4, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(1)]
    )


def functional():
    inputs = keras.Input((3,))
    return keras.Model(inputs, {"out": keras.layers.Dense(1)(inputs)})


def fitted(make, optimizer="adam", **arguments):
    keras.utils.set_random_seed(1)
    reads.clear()
    model = make()
    model.compile(optimizer, "mse", metrics=["mae"], jit_compile=False)
    logs = model.fit(verbose=0, **arguments).history
    return [digest(model), list(reads), logs]


def digest(model):
    return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()


def with_a_strategy():
    """The loss of a training loop of the user's, without `x`."""
    strategy = tf.distribute.MirroredStrategy(["cpu:0"])
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = sequential()
        model.compile("sgd", "mse")

        @tf.function
        def loss():
            return model.compute_loss(y=tf.constant(Y), y_pred=tf.constant(Y) + 1.0)

        value = float(loss())
        model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return [value, digest(model)]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1] == "ours":
        make_ours()
    programs = {
        name: lambda source=source: fitted(sequential, **source())
        for name, source in SOURCES.items()
    }
    programs["subclassed"] = lambda: fitted(Subclassed, **SOURCES["shuffled dataset"]())
    programs["dict"] = lambda: fitted(functional, "rmsprop", x=X, y={"out": Y})
    if keras.backend.backend() == "tensorflow":
        programs["strategy"] = with_a_strategy
    print("RESULT", json.dumps({name: program() for name, program in programs.items()}))
