"""What `chaos.py` kills: each run works in a folder, and goes on there when it is called again."""

import contextlib
import gzip
import hashlib
import io
import sys
import time
import warnings
from pathlib import Path

import keras
import keras_tuner
import numpy as np

from keras_extras import inference, layers
from keras_extras._core.files import whole_file
from keras_extras.callbacks import BackupAndResume
from keras_extras.datasets.higgs.download import download_atlas_file
from keras_extras.optimizers import MonteCarloOptimizer
from keras_extras.pipelines import AutoencoderClassifier
from keras_extras.tuners import TabularHyperModel

_GENERATOR = np.random.default_rng(0)
_X = _GENERATOR.normal(size=(96, 6)).astype("float32")
_Y = (np.tanh(_X @ _GENERATOR.normal(size=(6, 1))) > 0.0).astype("float32")

FILE = gzip.compress(_GENERATOR.bytes(400_000), mtime=0)


def fit(folder, optimizer=None, epochs=40, make_data=lambda: {"x": _X, "y": _Y, "batch_size": 16}):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(4, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer or MonteCarloOptimizer(0.02, 16), "mse", jit_compile=False)
    backup = BackupAndResume(folder / "backup")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(`shuffle=True` was passed|is run from its start)")
        model.fit(**make_data(), epochs=epochs, verbose=0, callbacks=[_Slow(), backup])
    return [np.array(v) for v in (*model.variables, *model.optimizer.variables)]


class _Slow(keras.callbacks.Callback):
    """Leaves time for kills in the middle of an epoch."""

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.002)


class _Batches(keras.utils.PyDataset):
    """Batches of rows in an order that changes after each epoch."""

    def __init__(self):
        super().__init__()
        self.rng, self.order = np.random.default_rng(3), np.arange(len(_X))

    def __len__(self):
        return len(_X) // 16

    def __getitem__(self, index):
        rows = self.order[16 * index : 16 * index + 16]
        return _X[rows] + np.random.normal(0.0, 0.1, (16, 6)), _Y[rows]

    def on_epoch_end(self):
        self.rng.shuffle(self.order)


def _rows():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((_X, _Y)).shuffle(96)


def _generator():
    rng = np.random.default_rng(3)
    while True:
        rows = rng.permutation(len(_X))[:16]
        yield _X[rows], _Y[rows]


_DATA = {
    "shuffled_arrays": lambda: {"x": _X, "y": _Y, "batch_size": 16},
    "arrays_in_steps": lambda: {"x": _X, "y": _Y, "batch_size": 16, "steps_per_epoch": 4},
    "dataset": lambda: {"x": _rows().batch(16).prefetch(2)},
    "repeated_dataset": lambda: {"x": _rows().repeat().batch(16), "steps_per_epoch": 4},
    "py_dataset": lambda: {"x": _Batches()},
    "generator": lambda: {"x": _generator(), "steps_per_epoch": 4},
}


def _fit_on(make_data):
    return lambda folder: fit(folder, keras.optimizers.Adam(0.01), 60, make_data)


def pipeline(folder):
    keras.utils.set_random_seed(1)
    model = AutoencoderClassifier(
        keras.layers.Dense(3, "tanh"),
        keras.layers.Dense(6),
        keras.Sequential([keras.layers.Dropout(0.2), keras.layers.Dense(1, "sigmoid")]),
        realizations=2,
        seed=3,
    )
    adam = keras.optimizers.Adam(0.01)
    model.compile(MonteCarloOptimizer(0.02, 16), "mse", adam, jit_compile=False)
    epochs = {"autoencoder_epochs": 15, "classifier_epochs": 15}
    model.fit(_X, _Y, batch_size=16, verbose=0, backup_dir=folder / "backup", **epochs)
    optimizers = [part.optimizer for part in (*model.autoencoders, model.classifier)]
    return [np.array(v) for thing in (model, *optimizers) for v in thing.variables]


def chains(folder):
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(2), layers.IndependentNormal(1)]
    )
    with warnings.catch_warnings(action="ignore"):
        posterior = inference.sample_posterior(
            model,
            _X,
            _Y,
            num_chains=2,
            num_burnin_steps=200,
            num_results=400,
            initial="prior",
            max_tree_depth=3,
            jit_compile=False,
            seed=2,
            verbose=0,
            backup_dir=folder / "backup",
        )
    return [*posterior.samples, *posterior.sample_stats.values()]


class _Search(keras_tuner.RandomSearch):
    """Writes down which trials it begins."""

    def run_trial(self, trial, *arguments, **keywords):
        with open(Path(self.project_dir).parent / "begun.txt", "a") as file:
            print(trial.trial_id, file=file, flush=True)
        keras.utils.set_random_seed(1)
        return super().run_trial(trial, *arguments, **keywords)


def search(folder):
    space = {"hidden_layers": 1, "units": [2, 4, 8], "batch_size": 16, "epochs": 3}
    tuner = _Search(
        TabularHyperModel(6, space=space),
        "val_loss",
        max_trials=4,
        seed=1,
        directory=folder,
        project_name="search",
    )
    tuner.search(_X, _Y, validation_data=(_X, _Y), verbose=0)
    trials = [tuner.oracle.trials[key] for key in sorted(tuner.oracle.trials)]
    best = tuner.get_best_models(1)[0]
    scores = [[trial.score, *trial.hyperparameters.values.values()] for trial in trials]
    return [np.array(scores), *best.get_weights()]


def download(folder):
    with contextlib.redirect_stdout(io.StringIO()):
        url = (folder.parent / "url.txt").read_text()
        path = download_atlas_file(url, hashlib.sha1(FILE).hexdigest(), folder)
    return [np.frombuffer(path.read_bytes(), "uint8")]


RUNS = {run.__name__: run for run in (fit, pipeline, chains, search, download)}
RUNS |= {f"fit_{name}": _fit_on(make_data) for name, make_data in _DATA.items()}
if keras.backend.backend() == "jax":
    del RUNS["chains"]


REFUSED = 3  # exit code


def work(name, folder):
    try:
        arrays = RUNS[name](folder)
    except RuntimeError as error:
        if "must be a folder that no other process works in" not in str(error):
            raise
        sys.exit(REFUSED)
    with whole_file(folder / "result.npz") as path:
        np.savez(path, *arrays)
