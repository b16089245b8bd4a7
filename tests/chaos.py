"""Kills what runs long, again and again, and compares what comes out with what was left alone.

    python tests/chaos.py --kills 10

starts each of five runs, kills it (`kill -9`) at random moments, half of them within milliseconds of
a change on the disk, and starts it again in the same folder until it is through. Its result must
then be the same to the last bit, and at no moment may a file be incomplete under its own name.
"""

import argparse
import contextlib
import gzip
import hashlib
import http.server
import io
import json
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

_TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(_TESTS.parent), str(_TESTS)]
# For the process that imports everything once, and of which those to be killed are forks.
os.environ["PYTHONPATH"] = os.pathsep.join([str(_TESTS.parent), str(_TESTS)])
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras
import keras_tuner
import numpy as np

from keras_extras import inference, layers
from keras_extras._core.files import whole_file
from keras_extras.callbacks import BackupAndResume
from keras_extras.datasets.higgs.download import download_atlas_file
from keras_extras.optimizers import MonteCarloOptimizer
from keras_extras.pipelines import AutoencoderClassifier
from keras_extras.tuners import skip_finished_trials

_GENERATOR = np.random.default_rng(0)
_X = _GENERATOR.normal(size=(96, 6)).astype("float32")
_Y = (np.tanh(_X @ _GENERATOR.normal(size=(6, 1))) > 0.0).astype("float32")

FILE = gzip.compress(_GENERATOR.bytes(400_000), mtime=0)


# What is killed: each works in a folder, and goes on there when it is called again.


def fit(folder):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1),
        ]
    )
    model.compile(MonteCarloOptimizer(0.02, 16), "mse")
    model.fit(
        _X, _Y, batch_size=16, epochs=40, verbose=0, callbacks=[BackupAndResume(folder / "backup")]
    )
    return [np.array(v) for v in (*model.variables, *model.optimizer.variables)]


def pipeline(folder):
    keras.utils.set_random_seed(1)
    model = AutoencoderClassifier(
        keras.layers.Dense(3, "tanh"),
        keras.layers.Dense(6),
        keras.Sequential([keras.layers.Dropout(0.2), keras.layers.Dense(1, "sigmoid")]),
        realizations=2,
        seed=3,
    )
    model.compile(MonteCarloOptimizer(0.02, 16), "mse", keras.optimizers.Adam(0.01))
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
            max_tree_depth=5,
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
        return super().run_trial(trial, *arguments, **keywords)


def _build(hp):
    keras.utils.set_random_seed(1)
    units = hp.Int("units", 2, 16)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(units, "tanh")])
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-3, 1e-1, sampling="log")), "mse")
    return model


def search(folder):
    tuner = _Search(
        _build, "val_loss", max_trials=4, seed=0, directory=folder, project_name="search"
    )
    skip_finished_trials(tuner.oracle)
    tuner.search(_X, _Y, validation_data=(_X, _Y), epochs=3, batch_size=16, verbose=0)
    trials = [tuner.oracle.trials[key] for key in sorted(tuner.oracle.trials)]
    best = tuner.get_best_models(1)[0]
    scores = [[trial.score, *trial.hyperparameters.values.values()] for trial in trials]
    return [np.array(scores), *best.get_weights()]


def download(folder):
    with contextlib.redirect_stdout(io.StringIO()):
        url = (folder.parent / "url.txt").read_text()
        path = download_atlas_file(url, hashlib.sha1(FILE).hexdigest(), folder)
    return [np.frombuffer(path.read_bytes(), "uint8")]


TASKS = {task.__name__: task for task in (fit, pipeline, chains, search, download)}


def _work(name, folder):
    arrays = TASKS[name](folder)
    with whole_file(folder / "result.npz") as path:
        np.savez(path, *arrays)


# Who kills.

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["chaos"])


class _SlowServer(http.server.BaseHTTPRequestHandler):
    """Sends the file in pieces, over about a second."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(FILE)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(FILE), 4096):
                self.wfile.write(FILE[start : start + 4096])
                time.sleep(0.01)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving(folder):
    """The server of `download`, whose address is in the folder."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _SlowServer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        (folder / "url.txt").write_text(f"http://127.0.0.1:{server.server_port}/events.csv.gz")
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class Chaos:
    """Kills one run after the other, and counts.

    Attributes:
        kills: How many runs were killed.
        differences: What came out otherwise than without kills, or was done twice.
        half_files: Files that were not whole.
    """

    def __init__(self, name, folder, rng):
        self.name = name
        self.kills, self.differences, self.half_files = 0, [], []
        self._folder, self._rng = Path(folder), rng
        began = time.monotonic()
        self._expected = self._finish(self._new_folder())
        self._duration = time.monotonic() - began

    def kill(self, times):
        """Kills that many runs, and lets the last go on to its end."""
        folder = self._new_folder()
        while times:
            if self._killed(folder):
                times -= 1
                self.kills += 1
                self.half_files += list(half_files(folder))
            else:
                self._compare(folder)
                folder = self._new_folder()
        self._finish(folder)
        self._compare(folder)

    def _new_folder(self):
        return Path(tempfile.mkdtemp(dir=self._folder, prefix=self.name))

    def _start(self, folder):
        process = _processes.Process(target=_work, args=(self.name, folder))
        process.start()
        return process

    def _finish(self, folder):
        process = self._start(folder)
        process.join(300)
        if process.exitcode != 0:
            process.kill()
            raise RuntimeError(f"{self.name} ended with code {process.exitcode} in {folder}")
        return read(folder)

    def _killed(self, folder):
        """Whether the run was killed before it was through."""
        finished, begun = finished_trials(folder), len(begun_trials(folder))
        process = self._start(folder)
        if self._rng.random() < 0.5:
            process.join(self._rng.uniform(0.0, self._duration))
        else:
            # Some changes from now, and within the time that one takes.
            for _ in range(self._rng.randint(1, 12)):
                before = seen = listing(folder)
                while seen == before and process.is_alive():
                    time.sleep(0.0005)
                    seen = listing(folder)
            time.sleep(self._rng.choice([0.0, self._rng.uniform(0.0, 0.005)]))
        process.kill()
        process.join()
        repeated = finished & set(begun_trials(folder)[begun:])
        self.differences += [f"trial {trial} was run again" for trial in repeated]
        if process.exitcode > 0:
            raise RuntimeError(f"{self.name} ended with code {process.exitcode} in {folder}")
        return process.exitcode != 0

    def _compare(self, folder):
        for number, (one, other) in enumerate(zip(self._expected, read(folder), strict=True)):
            if not np.array_equal(one, other):
                self.differences.append(f"array {number} of {self.name} in {folder}")


def read(folder):
    with np.load(folder / "result.npz") as arrays:
        return list(arrays.values())


def listing(folder):
    """What there is, and of what size; changes while it is looked at, too."""
    found = set()
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found.add((path, path.stat().st_size))
    return found


def half_files(folder):
    """The files that cannot be read, those aside that bear the name of a part."""
    for path in folder.rglob("*"):
        is_part = any(".part" in name for name in path.relative_to(folder).parts)
        if is_part or path.is_dir():
            continue
        try:
            if path.suffix == ".npz":
                with np.load(path) as arrays:
                    list(arrays.values())
            elif path.suffix == ".h5":
                with h5py.File(path) as file:
                    file.visititems(lambda _, item: item[()] if hasattr(item, "dtype") else None)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".gz" and path.read_bytes() != FILE:
                yield path
        except Exception as error:
            yield f"{path}: {error}"


def begun_trials(folder):
    path = folder / "begun.txt"
    return path.read_text().split() if path.exists() else []


def finished_trials(folder):
    paths = (folder / "search").glob("trial_*/trial.json")
    trials = [json.loads(path.read_text()) for path in paths]
    return {trial["trial_id"] for trial in trials if trial["status"] == "COMPLETED"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10, help="of each run (default: 10)")
    parser.add_argument("--only", choices=TASKS, help="one of the runs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    faults = 0
    print("| run | kills | differences | half files | seconds |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)):
        for name in [options.only] if options.only else TASKS:
            began = time.monotonic()
            chaos = Chaos(name, folder, rng)
            chaos.kill(options.kills)
            found = chaos.differences + chaos.half_files
            faults += len(found)
            print(
                f"| {name} | {chaos.kills} | {len(chaos.differences)} | {len(chaos.half_files)} "
                f"| {time.monotonic() - began:.0f} |",
                *found,
                sep="\n",
                flush=True,
            )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
