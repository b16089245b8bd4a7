"""A `fit` that was interrupted goes on with the batches that would have come, of whatever data."""

import json
import logging
import random
import re
import warnings

import keras
import numpy as np
import pytest
from interruptions import StopAfterBatches

from keras_extras import callbacks

tf = pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.both_backends,
    pytest.mark.filterwarnings(
        "ignore:.*(`shuffle=True` was passed, but will be ignored|Your input ran out of data)"
    ),
]

_X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
_Y = _X @ np.ones((3, 1), "float32")


class Batches(keras.utils.PyDataset):
    """Eight rows in each batch, in an order that may be changed after each epoch."""

    def __init__(self, reorders=False, **options):
        super().__init__(**options)
        self.rng = np.random.default_rng(1) if reorders else None
        self.order = np.arange(40)

    def __len__(self):
        return 5

    def __getitem__(self, index):
        rows = self.order[8 * index : 8 * index + 8]
        return _X[rows], _Y[rows]

    def on_epoch_end(self):
        if self.rng is not None:
            self.rng.shuffle(self.order)


class RandomBatches(Batches):
    """Batches from the global random numbers."""

    def __getitem__(self, index):
        rows = np.random.permutation(40)[:8]
        return _X[rows], _Y[rows]


def generator():
    rng = np.random.default_rng(1)
    while True:
        rows = rng.permutation(40)[:8]
        yield _X[rows], _Y[rows]


def rows():
    return tf.data.Dataset.from_tensor_slices((_X, _Y))


def noisy(x, y):
    return x + tf.random.normal([3]), y


_DATA = {
    "arrays": lambda: {"x": _X, "y": _Y, "batch_size": 9},
    "arrays, in order": lambda: {"x": _X, "y": _Y, "batch_size": 8, "shuffle": False},
    "arrays, some steps": lambda: {"x": _X, "y": _Y, "batch_size": 8, "steps_per_epoch": 2},
    "dataset": lambda: {"x": rows().shuffle(40).batch(8)},
    "dataset with a seed": lambda: {"x": rows().shuffle(40, seed=3).batch(8).prefetch(2)},
    "dataset, repeated": lambda: {"x": rows().shuffle(40).repeat().batch(8), "steps_per_epoch": 3},
    "dataset, cached": lambda: {"x": rows().shuffle(40).batch(8).cache()},
    "dataset with noise": lambda: {"x": rows().shuffle(40).map(noisy).batch(8)},
    "dataset of any length": lambda: {"x": rows().filter(lambda x, y: True).shuffle(40).batch(8)},
    "PyDataset": lambda: {"x": Batches()},
    "PyDataset, threads": lambda: {"x": Batches(workers=2)},
    "PyDataset that reorders": lambda: {"x": Batches(reorders=True)},
    "PyDataset, some steps": lambda: {"x": Batches(), "steps_per_epoch": 2},
    "PyDataset, random": lambda: {"x": RandomBatches()},
    "generator": lambda: {"x": generator(), "steps_per_epoch": 3},
}


def unwindowed(x, y):
    return tf.data.Dataset.zip((x, y))


def shuffled(x, y):
    return unwindowed(x, y).shuffle(9)


def mixed(*datasets):
    return tf.data.Dataset.sample_from_datasets(datasets)


def in_numpy(x, y):
    return tf.ensure_shape(tf.numpy_function(lambda x: x, [x], tf.float32), [3]), y


def make_model(optimizer=None, seed=5, steps_per_execution=1):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.2), keras.layers.Dense(1)])
    model.compile(
        optimizer or keras.optimizers.SGD(0.05),
        "mse",
        jit_compile=False,
        steps_per_execution=steps_per_execution,
    )
    return model


def fit(folder, data, *others, epochs=4, **options):
    model = make_model(**options)
    data = data() if callable(data) else data
    backup = callbacks.BackupAndResume(folder, delete_backup=False)
    return model.fit(**data, epochs=epochs, verbose=0, callbacks=[*others, backup])


@pytest.mark.parametrize(
    ("name", "steps_per_execution"),
    [*((name, 1) for name in _DATA), ("arrays", 2), ("dataset of any length", 2)],
)
def test_goes_on_with_what_comes_next(tmp_path, name, steps_per_execution):
    if name == "generator":
        warnings.filterwarnings("ignore", ".*is run from its start again")
    options = {"steps_per_execution": steps_per_execution}
    random.seed(1)
    without = make_model(**options)
    without.fit(**_DATA[name](), epochs=4, verbose=0)
    for batches in (5, 1):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, _DATA[name], StopAfterBatches(batches), **options)
    resumed = fit(tmp_path, _DATA[name], **options)
    assert 0 < resumed.epoch[0] < 4
    for one, other in zip(without.variables, resumed.model.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_any_seed(tmp_path):
    """Keras draws the order of a PyDataset from `random`, whose state is in the backup."""
    whole = fit(tmp_path / "whole", {"x": Batches()})
    fit(tmp_path / "backup", {"x": Batches()}, epochs=2)
    state = json.loads(next((tmp_path / "backup").glob("*/training.json")).read_text())["data"]
    whole_state = json.loads(next((tmp_path / "whole").glob("*/training.json")).read_text())["data"]
    assert (state["epochs"], whole_state["epochs"]) == (2, 4)
    random.seed(99)
    np.random.seed(99)
    model = make_model(seed=7)
    backup = callbacks.BackupAndResume(tmp_path / "backup")
    model.fit(Batches(), epochs=4, verbose=0, callbacks=[backup])
    for one, other in zip(whole.model.variables, model.variables, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("make_data", "message"),
    [
        (lambda: {"x": rows().shuffle(40).batch(8)}, r"tf.data.Dataset .* a seed \(Shuffle\)"),
        (lambda: {"x": rows().map(noisy).batch(8)}, r"a seed \(RandomStandardNormal\)"),
        (lambda: {"x": rows().window(9).flat_map(unwindowed).batch(8)}, None),
        (lambda: {"x": rows().window(9).flat_map(shuffled).batch(8)}, r"a seed \(ShuffleDataset"),
        (lambda: {"x": rows().shuffle(40, seed=1).batch(8)}, None),
        (lambda: {"x": mixed(rows(), rows()).batch(8)}, r"a seed \(Random\)"),
        (lambda: {"x": rows().map(in_numpy).batch(8)}, "with Python functions"),
        (lambda: {"x": generator(), "steps_per_epoch": 2}, "`x` is a generator"),
        (lambda: {"x": _X, "y": _Y, "batch_size": 8}, "`x` are arrays, which are shuffled"),
        (lambda: {"x": _X, "y": _Y, "batch_size": 8, "shuffle": False}, None),
        (lambda: {"x": Batches()}, None),
    ],
)
def test_data_of_chance_is_told_in_the_first_epoch(tmp_path, make_data, message):
    model = make_model()
    tf.random.set_seed(None)  # as in a process that sets none
    data = make_data()
    if keras.backend.backend() == "jax" and data["x"] is _X:
        message = None  # The order comes from `numpy.random`, whose state is in the backup.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(**data, verbose=0, callbacks=[callbacks.BackupAndResume(tmp_path)])
    found = [str(w.message) for w in caught if "After an interruption, Backup" in str(w.message)]
    assert len(found) == (message is not None)
    assert message is None or re.search(message, found[0])


def test_data_that_is_not_the_same_is_told(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "arrays", _DATA["arrays"](), StopAfterBatches(6))
    with pytest.warns(UserWarning, match="the first batch is not that of the `fit` that was"):
        fit(tmp_path / "arrays", {**_DATA["arrays"](), "x": _X + np.float32(1)})
    data = _DATA["dataset"]()
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "dataset", data, StopAfterBatches(6))
    with pytest.warns(UserWarning, match="was trained on in this process.*Make it again"):
        fit(tmp_path / "dataset", data)


def test_another_optimizer_is_told(tmp_path, caplog):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, _DATA["arrays"](), StopAfterBatches(6))
    with pytest.raises(ValueError, match=r"must be compiled with the optimizer.* SGD; .*Adam"):
        fit(tmp_path, _DATA["arrays"](), optimizer=keras.optimizers.Adam())
    with (
        caplog.at_level(logging.INFO, "keras_extras"),
        pytest.warns(UserWarning, match=r"began with learning_rate=0.05\d*, not 0.5\. Its state"),
    ):
        fit(tmp_path, _DATA["arrays"](), optimizer=keras.optimizers.SGD(0.5))
    assert caplog.messages == [
        "BackupAndResume leaves the batches of past epochs aside. Their number: 1"
    ]


def test_the_next_fit_starts_where_it_says(tmp_path):
    """Also after a `fit` that was resumed, and interrupted again."""
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, _DATA["arrays"](), StopAfterBatches(11))
    model = make_model()
    with pytest.raises(KeyboardInterrupt):
        model.fit(
            _X,
            _Y,
            epochs=4,
            batch_size=9,
            verbose=0,
            callbacks=[StopAfterBatches(2), callbacks.BackupAndResume(tmp_path)],
        )
    assert model.fit(_X, _Y, epochs=2, verbose=0).epoch == [0, 1]


def test_a_fit_of_its_own_is_told(tmp_path):
    class Own(keras.Sequential):
        def fit(self, callbacks):
            callbacks = keras.callbacks.CallbackList(callbacks, model=self)
            callbacks.on_train_begin()
            callbacks.on_epoch_begin(0)
            callbacks.on_epoch_end(0)
            callbacks.on_train_end()

    model = Own([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match=r"it knows only the data of `keras\.Model\.fit`"):
        model.fit([callbacks.BackupAndResume(tmp_path)])
