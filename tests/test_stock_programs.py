"""Programs without an object of ours come to the same with one, and ours miss no batch."""

import itertools
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_extras import layers, optimizers

tf = pytest.importorskip("tensorflow", reason="stock programs read tf.data")
import stock_programs  # noqa: E402

_SCRIPT = pathlib.Path(__file__).with_name("stock_programs.py")


def run(kind):
    environment = {
        **os.environ,
        "KERAS_BACKEND": keras.backend.backend(),
        "PYTHONPATH": str(_SCRIPT.parents[1]),
    }
    process = subprocess.run(
        [sys.executable, str(_SCRIPT), kind],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    lines = [line for line in process.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, process.stderr[-2000:]
    return json.loads(lines[0].removeprefix("RESULT "))


@pytest.mark.both_backends
def test_stock_programs_are_equal_to_the_bit_beside_our_objects():
    stock, beside_ours = run("stock"), run("ours")
    assert len(stock) >= 7
    assert stock == beside_ours


class OnePass(keras.utils.PyDataset):
    """Whatever the index, the next batch of a stream."""

    def __init__(self):
        super().__init__()
        self._numbers = itertools.count()

    def __len__(self):
        return 10

    def __getitem__(self, index):
        number = next(self._numbers)
        stock_programs.reads.append(number)
        return stock_programs.X + number, stock_programs.Y


def _known_length():
    length = tf.data.experimental.assert_cardinality(10)
    return stock_programs.streamed().apply(length)


STREAMS = {
    "generator": lambda: {"x": stock_programs.stream()(), "steps_per_epoch": 10},
    "dataset": lambda: {"x": stock_programs.streamed(), "steps_per_epoch": 10},
    "dataset of known length": lambda: {"x": _known_length()},
    "mapped dataset": lambda: {"x": _known_length().map(lambda x, y: (x, y)).prefetch(1)},
}
OURS = {
    "layer": lambda: ([layers.DenseFlipout(1, kl_weight="auto")], "sgd"),
    "sampler": lambda: ([keras.layers.Dense(1)], optimizers.SGLD(1e-5, num_samples=1)),
    "search": lambda: ([keras.layers.Dense(1)], optimizers.MonteCarloOptimizer(0.01, 4)),
    "full batch": lambda: ([keras.layers.Dense(1)], optimizers.LBFGS(0.5)),
}


def trained(ours, source):
    """The size that was learned, and the batches that the model was trained on."""
    parts, optimizer = OURS[ours]()
    model = keras.Sequential(parts)
    batches = []

    def loss(y, y_pred):
        tf.numpy_function(lambda rows: batches.append(rows), [y], [])
        return keras.ops.mean((y - y_pred) ** 2)

    model.compile(optimizer, loss, jit_compile=False)
    stock_programs.reads.clear()
    model.fit(verbose=0, shuffle=False, **source)
    variables = [*model.variables, *model.optimizer.variables]
    sizes = [float(v) for v in variables if v.name == "training_set_size"]
    return sizes, {float(rows[0, 0]) for rows in batches}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("ours", OURS)
def test_our_models_train_on_all_batches_of_a_stream(ours, stream):
    sizes, batches = trained(ours, STREAMS[stream]())
    assert sizes == ([] if ours == "full batch" else [40.0])
    assert stock_programs.reads == list(range(10))
    assert batches == {float(y) for y in stock_programs.Y[::4, 0]}


def test_a_py_dataset_of_one_pass_is_read_as_often_as_for_a_stock_model():
    def reads(layer):
        stock_programs.reads.clear()
        model = keras.Sequential([keras.Input((3,)), layer])
        model.compile("sgd", "mse")
        model.fit(OnePass(), shuffle=False, verbose=0)
        return list(stock_programs.reads)

    assert reads(layers.DenseFlipout(1, kl_weight="auto")) == reads(keras.layers.Dense(1))


def test_a_pipeline_that_says_how_large_its_batches_are_is_not_read():
    def order(kl_weight):
        keras.utils.set_random_seed(1)
        rows = tf.data.Dataset.from_tensor_slices((stock_programs.X, stock_programs.Y))
        model = keras.Sequential([layers.DenseFlipout(1, kl_weight=kl_weight, seed=1)])
        model.compile("sgd", "mse")
        model.fit(rows.shuffle(40).batch(8), epochs=2, shuffle=False, verbose=0)
        return model.layers[0].trainable_variables

    for learned, given in zip(order("auto"), order(1 / 40), strict=True):
        np.testing.assert_allclose(learned, given, rtol=1e-6)


class MakesItsLayer(keras.layers.Layer):
    """Nothing shows that it asks for the size before it is built."""

    def build(self, input_shape):
        self.inner = layers.DenseFlipout(1, kl_weight="auto")
        self.inner.build(input_shape)

    def call(self, inputs, training=None):
        return self.inner(inputs, training=training)


def test_layers_that_are_made_while_training_runs_learn_the_size():
    model = keras.Sequential([MakesItsLayer()])
    model.compile("sgd", "mse")
    rows = tf.data.Dataset.from_tensor_slices((stock_programs.X, stock_programs.Y))
    model.fit(rows.batch(8), shuffle=False, verbose=0)
    assert float(model.layers[0].inner.training_set_size) == 40.0


def test_such_layers_cannot_look_into_a_generator():
    model = keras.Sequential([MakesItsLayer()])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="size of the training set, which is unknown"):
        model.fit(stock_programs.stream()(), steps_per_epoch=10, shuffle=False, verbose=0)
