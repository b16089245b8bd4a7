"""A run that is killed at any step, and goes on from its backup, ends as if it had not been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]

RUN = """
import sys

import keras
import numpy as np

from keras_extras.optimizers import MonteCarloOptimizer

folder, out, slow = sys.argv[1], sys.argv[2], sys.argv[3] == "slow"
rng = np.random.default_rng(0)
x = rng.normal(size=(96, 6)).astype("float32")
y = np.tanh(x @ rng.normal(size=(6, 2))).astype("float32")

keras.utils.set_random_seed(int.from_bytes(folder.encode()[-2:], "big"))  # of no consequence
model = keras.Sequential(
    [
        keras.Input((6,)),
        keras.layers.Dense(8, "relu", kernel_initializer=keras.initializers.GlorotUniform(1)),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(2)),
    ]
)
model.compile(MonteCarloOptimizer(0.02, 32, seed=1), "mse")


class TellAndWait(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("step", int(model.optimizer.iterations), flush=True)
        if slow:
            import time

            time.sleep(0.05)


callbacks = [keras.callbacks.BackupAndRestore(folder), TellAndWait()]
model.fit(x, y, batch_size=16, epochs=4, shuffle=False, verbose=0, callbacks=callbacks)
np.savez(out, *[v.numpy() for v in (*model.variables, *model.optimizer.variables)])
"""


def start(folder, out, pace):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), str(out), pace],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        text=True,
    )


def killed_at(step, folder, out, offset):
    process = start(folder, out, "slow")
    for line in process.stdout:
        if line.split() == ["step", str(step)]:
            time.sleep(offset)
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def finish(folder, out):
    process = start(folder, out, "fast")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return [int(line.split()[1]) for line in said.splitlines() if line.startswith("step")]


def test_a_killed_run_ends_as_if_left_alone(tmp_path):
    assert finish(tmp_path / "whole", tmp_path / "whole.npz") == list(range(1, 25))
    # Six steps an epoch: between two steps of the second epoch, and within one of the third.
    killed_at(8, tmp_path / "backup", tmp_path / "killed.npz", 0.0)
    killed_at(15, tmp_path / "backup", tmp_path / "killed.npz", 0.052)
    assert finish(tmp_path / "backup", tmp_path / "killed.npz") == list(range(13, 25))
    whole, killed = (np.load(tmp_path / name) for name in ("whole.npz", "killed.npz"))
    for name in whole.files:
        np.testing.assert_array_equal(whole[name], killed[name], err_msg=name)
