"""Searches over replicas: two devices of one process, and two processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras.optimizers import CMAES, LBFGS, MonteCarloOptimizer

ROOT = Path(__file__).parents[1]

PREPARE = """
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_extras.optimizers import CMAES, SPSA, MonteCarloOptimizer

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 6)).astype("float32")
Y = np.tanh(X @ rng.normal(size=(6, 2))).astype("float32")
KINDS = {
    "orthogonal": lambda: MonteCarloOptimizer(0.02, 32, weight_decay=0.01, seed=1),
    "low rank": lambda: MonteCarloOptimizer(0.02, 32, noise="low_rank", chunk_size=8, seed=1),
    "spsa": lambda: SPSA(0.02, sigma=0.01, seed=1),
    "best": lambda: MonteCarloOptimizer(
        0.02,
        32,
        keep="best",
        priors={"*": keras_priors.Normal(0.0, 0.5)},
        num_prior_samples=16,
        seed=1,
    ),
    "cma": lambda: CMAES(generations_per_batch=2, seed=1),
}

from keras_extras.optimizers import priors as keras_priors


def make_model(strategy, optimizer, width=8):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(width, "relu", kernel_regularizer="l2"),
                keras.layers.Dense(2, kernel_constraint=keras.constraints.MaxNorm(2.0)),
            ]
        )
        model.compile(optimizer(), "mse", metrics=["mae"])
    return model
"""

MIRRORED = """
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

for name in sys.argv[1:]:
    histories, weights = [], []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        model = make_model(strategy, KINDS[name])
        # The shares of a batch of 25 differ in size, and the last batch has 10 rows.
        history = model.fit(X, Y, batch_size=25, epochs=4, shuffle=False, verbose=0).history
        histories.append(history)
        weights.append(model.get_weights())
    for one, two in zip(*weights):
        np.testing.assert_allclose(two, one, atol=1e-4, err_msg=name)
    if name != "spsa":  # whose logs cost no evaluation in one process
        np.testing.assert_allclose(histories[1]["loss"], histories[0]["loss"], rtol=0.02)
        np.testing.assert_allclose(histories[1]["mae"], histories[0]["mae"], rtol=0.02)
    assert histories[1]["loss"][-1] < histories[1]["loss"][0]
    copies = model.trainable_variables[0].value.values
    np.testing.assert_array_equal(copies[0], copies[1])

before = model.get_weights()
try:
    model.fit(np.full_like(X, np.nan), Y, batch_size=60, verbose=0)
except ValueError as error:
    assert "NaN or infinite" in str(error)
else:
    raise SystemExit("trained on NaN")
for a, b in zip(before, model.get_weights()):
    np.testing.assert_allclose(a, b, rtol=1e-5)  # the constraint of a constrained kernel
"""

STRATEGIES = """
import keras_extras
from keras_extras.optimizers import LBFGS, NewtonCG, PartitionedOptimizer, SSBroyden

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
keras.config.set_floatx("float64")
X, Y = X.astype("float64"), Y.astype("float64")


def partitioned(search):
    clipped = keras.optimizers.Adam(0.01, clipnorm=0.1, weight_decay=0.01)
    return PartitionedOptimizer({"*/bias": search, "*": clipped})


SEARCHES = {
    "population": lambda: MonteCarloOptimizer(0.02, 8, seed=1),
    "pair": lambda: SPSA(0.02, 0.01, seed=1),
    "cma": lambda: CMAES(seed=1),
    "lbfgs": LBFGS,
    "newton": NewtonCG,
    "ss_broyden": SSBroyden,
    "truncated newton": lambda: NewtonCG(hessian="products"),
    "partitioned": lambda: partitioned(MonteCarloOptimizer(0.02, 8, seed=1)),
    "partitioned cma": lambda: partitioned(CMAES(seed=1)),
}


def make(strategy, optimizer, **arguments):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(2, "tanh"), keras.layers.Dense(2)]
        )
        model.compile(optimizer(), "mse", metrics=["mae"], **arguments)
    return model


def trained(strategy, optimizer, batch_size=25, callbacks=None, **arguments):
    model = make(strategy, optimizer, **arguments)
    rows = {"batch_size": batch_size, "shuffle": False}
    model.fit(X, Y, epochs=2, verbose=0, callbacks=callbacks, **rows)
    return model


default = tf.distribute.get_strategy()
one = tf.distribute.MirroredStrategy(["CPU:0"])
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
"""

SAME_WEIGHTS = """
for name in sys.argv[1:]:
    # On few rows a Hessian is singular, and Newton's step enlarges rounding.
    batch_size = 60 if "newton" in name else 25
    alone = trained(default, SEARCHES[name], batch_size)
    for strategy in (tf.distribute.OneDeviceStrategy("CPU:0"), one, two):
        model = trained(strategy, SEARCHES[name], batch_size)
        said = f"{name}, {type(strategy).__name__} of {strategy.num_replicas_in_sync}"
        for a, b in zip(alone.get_weights(), model.get_weights()):
            np.testing.assert_allclose(b, a, atol=1e-6, err_msg=said)
    np.testing.assert_allclose(model.predict(X, verbose=0), alone.predict(X, verbose=0), atol=1e-5)
    scores = [m.evaluate(X, Y, batch_size=25, verbose=0) for m in (alone, model)]
    np.testing.assert_allclose(*scores, atol=1e-5)
"""

AROUND = """
folder = sys.argv[1]
search = SEARCHES["population"]
weights = trained(default, search).get_weights()


def check(model, said):
    for a, b in zip(weights, model.get_weights()):
        np.testing.assert_allclose(b, a, atol=1e-6, err_msg=said)


check(trained(one, search, jit_compile=True), "compiled by XLA")
for number, strategy in enumerate((one, two)):
    check(trained(strategy, search, steps_per_execution=2), "several steps in an execution")

    def callbacks():
        saved = f"{folder}/{number}.keras"
        return [
            keras.callbacks.ModelCheckpoint(saved),
            keras_extras.callbacks.BackupAndResume(f"{folder}/{number}"),
            keras_extras.callbacks.SearchMonitor(),
        ]

    check(trained(strategy, search, callbacks=callbacks()), "with callbacks")
    check(keras.models.load_model(f"{folder}/{number}.keras"), "saved")

    model = make(strategy, search)
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)

    @tf.function
    def step(x, y):
        def in_replica(x, y):
            loss = lambda: keras.ops.mean((model(x) - y) ** 2)
            model.optimizer.minimize(loss, model.trainable_variables, keras.ops.shape(x)[0])

        strategy.run(in_replica, args=(x, y))

    rows = tf.data.Dataset.from_tensor_slices((X, Y)).batch(25).repeat(2)
    for x, y in strategy.experimental_distribute_dataset(rows):
        step(x, y)
    check(model, "in a loop")

try:
    trained(two, search, jit_compile=True)
except ValueError as error:
    assert "jit_compile=True, a MirroredStrategy of 2 replicas" in str(error)
else:
    raise SystemExit("compiled a step of two devices")
"""

WORKER = """
index, count, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
strategy = tf.distribute.get_strategy()
if count > 1:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
rows = tf.data.Dataset.from_tensor_slices((X, Y)).batch(30).with_options(options)
model = make_model(strategy, KINDS["orthogonal"])
history = model.fit(rows, epochs=25, validation_data=rows, verbose=0).history  # 50 steps
np.savez(out, *model.get_weights(), **history, evaluated=model.evaluate(rows, verbose=0))

# A training loop of one's own, and what it reduces over the workers.
shared = strategy.experimental_distribute_dataset(rows)
for width in (8, 64):
    model = make_model(strategy, KINDS["orthogonal"], width)
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)

    @tf.function
    def step(batch):
        def in_replica(x, y):
            loss = lambda: keras.ops.mean((model(x) - y) ** 2)
            model.optimizer.minimize(loss, model.trainable_variables, keras.ops.shape(x)[0])

        strategy.run(in_replica, args=batch)

    batch = next(iter(shared))
    before = float(np.mean((model(X) - Y) ** 2))
    for _ in range(20):
        step(batch)
    assert float(np.mean((model(X) - Y) ** 2)) < before
    graph = step.get_concrete_function(batch).graph
    reduced = [op for op in graph.get_operations() if op.type.startswith("Collective")]
    numbers = sum(tensor.shape.num_elements() for op in reduced for tensor in op.outputs)
    inner = graph.as_graph_def().library.function
    assert not any(n.op.startswith("Collective") for f in inner for n in f.node_def)
    print("reduced", numbers)
"""


def run_python(code, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, err[-3000:]
    return out


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.parametrize(
    "kinds",
    [
        ["orthogonal"],
        pytest.param(["low rank", "spsa", "best", "cma"], marks=pytest.mark.slow),
    ],
    ids=", ".join,
)
def test_two_devices_train_as_one(kinds):
    finish(run_python(MIRRORED, *kinds))


@pytest.mark.parametrize(
    "kinds",
    [
        ["lbfgs", "partitioned"],
        pytest.param(
            ["population", "pair", "cma", "newton", "truncated newton", "partitioned cma"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=", ".join,
)
def test_weights_are_those_without_a_strategy(kinds):
    finish(run_python(STRATEGIES + SAME_WEIGHTS, *kinds))


@pytest.mark.slow
def test_what_is_around_a_search_works_in_scope(tmp_path):
    finish(run_python(STRATEGIES + AROUND, tmp_path))


@pytest.mark.parametrize("optimizer", [CMAES, LBFGS, MonteCarloOptimizer])
def test_other_strategies_are_refused(optimizer):
    strategy = tf.distribute.experimental.CentralStorageStrategy()
    received = "Received: CentralStorageStrategy"
    with strategy.scope(), pytest.raises(ValueError, match=received):
        optimizer()
    w = keras.Variable([1.0])
    made_outside = optimizer()
    with pytest.raises(ValueError, match=received):
        strategy.run(lambda: made_outside.minimize(lambda: keras.ops.sum(w**2), [w]))


def test_another_strategy_is_refused_before_the_first_step():
    with tf.distribute.experimental.CentralStorageStrategy().scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(LBFGS(), "mse")
    with pytest.raises(ValueError, match="Received: CentralStorageStrategy"):
        model.fit(np.ones((4, 1)), np.ones((4, 1)), batch_size=4, verbose=0)


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """What one process, and each of two processes, wrote and said."""
    folder = tmp_path_factory.mktemp("workers")
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = [run_python(WORKER, 0, 1, folder / "one.npz")]
    for index in range(2):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        out = folder / f"two{index}.npz"
        processes.append(run_python(WORKER, index, 2, out, TF_CONFIG=json.dumps(task)))
    said = [finish(process) for process in processes]
    return [dict(np.load(folder / name)) for name in ("one.npz", "two0.npz", "two1.npz")], said


@pytest.mark.slow
def test_two_processes_train_as_one(workers):
    (one, *two), _ = workers
    for name, values in one.items():
        for other in two:
            np.testing.assert_allclose(other[name], values, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_what_processes_exchange_does_not_grow_with_the_weights(workers):
    """Of 32 candidates, and 3 for the curvature, the losses, and twice the sum of weights."""
    _, (alone, *said) = workers
    assert alone.split() == ["reduced", "0"] * 2
    for out in said:
        _, few, _, many = out.split()
        assert few == many
        assert 0 < int(few) < 50
