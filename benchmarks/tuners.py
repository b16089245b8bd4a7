"""Searches: what gradients of hyperparameters, a second process and a fresh graph are worth.

- `gradients`: `HypergradientTuner` with 5 trials beside keras-tuner's RandomSearch with 30, on the
  digits, for the same space and 200 updates a training: best validation loss, the test loss of that
  model, and seconds.
- `workers`: a search of 12 trials with one worker and with two, chief and all: seconds, and how
  often each trial was run.
- `memory`: the peak memory of a process after 5 and after 30 trials.

    python benchmarks/tuners.py
    python benchmarks/tuners.py --parts memory
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_tuner
from common import command_line
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_extras import tuners, unrolled
from keras_extras.datasets import higgs

BATCH = 100
OBJECTIVE = keras_tuner.Objective("val_crossentropy", "min")


def load_data() -> list:
    """Training, validation and test rows of the digits, each `(x, y)`."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype("float32")
    x, x_test, y, y_test = train_test_split(x, y, test_size=300, stratify=y, random_state=0)
    x, x_val, y, y_val = train_test_split(x, y, test_size=300, stratify=y, random_state=0)
    return [(x, y), (x_val, y_val), (x_test, y_test)]


def network(hp: Any, optimizer: Any, penalty: float = 0.0) -> keras.Model:
    """Any width and activation, as both searches have it."""
    regularizer = keras.regularizers.L2(penalty) if penalty else None
    hidden = keras.layers.Dense(
        hp.Choice("units", [16, 32, 64, 128]),
        activation=hp.Choice("activation", ["tanh", "relu"]),
        kernel_regularizer=regularizer,
    )
    model = keras.Sequential(
        [keras.Input((64,)), hidden, keras.layers.Dense(10, kernel_regularizer=regularizer)]
    )
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalCrossentropy("crossentropy", from_logits=True)],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def sampled(hp: Any) -> keras.Model:
    """The continuous hyperparameters sampled, too."""
    rate = hp.Float("learning_rate", 1e-3, 1.0, sampling="log")
    optimizer = keras.optimizers.SGD(rate, momentum=hp.Float("momentum", 0.0, 0.99))
    return network(hp, optimizer, hp.Float("penalty", 1e-6, 1e-2, sampling="log"))


def descended(hp: Any) -> keras.Model:
    return network(hp, keras.optimizers.SGD(momentum=0.5))


def gradients(trials: int = 30, steps: int = 200) -> dict[str, tuple[float, float, float]]:
    """Best validation loss, test loss and seconds of each search."""
    (x, y), validation, test = load_data()
    epochs = -(-steps // -(-len(x) // BATCH))
    starts = {"learning_rate": unrolled.PerStep(0.05), "momentum": 0.5, "l2/*kernel": 1e-4}
    results = {}
    print(f"\n{'search':22} {'trials':>6} {'validation':>11} {'test':>7} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as folder:
        random = keras_tuner.RandomSearch(
            sampled, OBJECTIVE, trials, seed=1, directory=folder, project_name="random"
        )
        few = max(1, trials // 6)
        oracle = keras_tuner.oracles.RandomSearchOracle(OBJECTIVE, few, seed=1)
        hypergradient = tuners.HypergradientTuner(
            oracle,
            descended,
            starts,
            steps,
            BATCH,
            meta_steps=30,
            directory=folder,
            project_name="hypergradient",
        )
        fit = {"epochs": epochs, "batch_size": BATCH}
        for name, tuner, arguments in (
            ("RandomSearch", random, fit),
            ("HypergradientTuner", hypergradient, {}),
        ):
            start = time.perf_counter()
            tuner.search(x, y, validation_data=validation, verbose=0, **arguments)
            seconds = time.perf_counter() - start
            best = tuner.oracle.get_best_trials()[0].score
            scores = tuner.get_best_models()[0].evaluate(*test, verbose=0, return_dict=True)
            results[name] = best, scores["crossentropy"], seconds
            print(
                f"{name:22} {len(tuner.oracle.trials):6} {best:11.4f} {results[name][1]:7.4f} "
                f"{seconds:8.1f}",
                flush=True,
            )
    return results


class Noting(tuners.TabularHyperModel):
    """Leaves a file for each training that begins."""

    def __init__(self, folder: str, **arguments: Any):
        super().__init__(30, metrics=[keras.metrics.AUC(name="auc")], **arguments)
        self.folder = Path(folder)

    def fit(self, hp: Any, model: keras.Model, *args: Any, **kwargs: Any) -> Any:
        (self.folder / f"begun_{os.getpid()}_{time.monotonic_ns()}").touch()
        return super().fit(hp, model, *args, **kwargs)


def search(folder: str, trials: int, epochs: int, num_events: int) -> keras_tuner.Tuner:
    """The search of `workers` and `memory`."""
    events = higgs.load_events(num_events=num_events, seed=0)
    x, y = events.features, events.labels
    standardize = keras.layers.Normalization()
    standardize.adapt(x)
    hypermodel = Noting(
        folder,
        preprocessor=standardize,
        space={"epochs": epochs, "units": [64, 128], "batch_size": 128},
    )
    objective = keras_tuner.Objective("val_auc", "max")
    tuner = keras_tuner.RandomSearch(hypermodel, objective, trials, seed=1, directory=folder)
    tuner.search(x, y, validation_split=0.25, verbose=0)
    return tuner


def workers(
    numbers: Sequence[int] = (1, 2), trials: int = 12, epochs: int = 20, num_events: int = 20_000
) -> dict[int, float]:
    """Seconds of the same search by the number of its workers, each with one thread."""
    results = {}
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    print(f"\n{'workers':>7} {'trials':>7} {'runs':>5} {'seconds':>8}")
    for number in numbers:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            tuners.run_workers(
                search,
                number,
                args=(folder, trials, epochs, num_events),
                environments=[threads] * number,
                log_dir=Path(folder) / "logs",
            )
            results[number] = time.perf_counter() - start
            done = len(list(Path(folder).glob("*/trial_*/trial.json")))
            runs = len(list(Path(folder).glob("begun_*")))
        print(f"{number:7} {done:7} {runs:5} {results[number]:8.1f}", flush=True)
    print(f"speed-up {results[numbers[0]] / results[numbers[-1]]:.2f}")
    return results


class Memory(keras.callbacks.Callback):
    """The peak of the process at the end of each training, in MB."""

    peaks: list[float]

    def __init__(self):
        super().__init__()
        self.peaks = []

    def __deepcopy__(self, memo):
        return self  # keras-tuner copies callbacks for each trial

    def on_train_end(self, logs=None):
        scale = 2**20 if sys.platform == "darwin" else 2**10
        self.peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale)


def memory(trials: int = 30, early: int = 5) -> float:
    """The peak after all trials over that after the first ones."""
    (x, y), validation, _ = load_data()
    callback = Memory()
    hypermodel = tuners.TabularHyperModel(64, num_outputs=10, space={"epochs": 3})
    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.RandomSearch(hypermodel, "val_loss", trials, seed=1, directory=folder)
        tuner.search(x, y, validation_data=validation, callbacks=[callback], verbose=0)
    first, last = callback.peaks[early - 1], callback.peaks[-1]
    print(
        f"\npeak memory after {early} trials {first:.0f} MB, after {trials} {last:.0f} MB: "
        f"{last / first:.2f} times"
    )
    return last / first


PARTS = {"gradients": gradients, "workers": workers, "memory": memory}


def main(parts: str = ",".join(PARTS)) -> dict[str, Any]:
    """Runs the parts and returns what each returns."""
    # First of all, as memory has only one peak in a process.
    return {name: PARTS[name]() for name in sorted(parts.split(","), key=lambda n: n != "memory")}


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help="which, with commas")
    main(**vars(parser.parse_args()))
