"""BackupAndResume: training that goes on after a kill as if there had been none."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_extras._core.checks import check_flag
from keras_extras._core.files import read_json, remove_folders, whole_folder
from keras_extras._core.locks import lock_folder, release_folder
from keras_extras._seams.epoch_iterator import (
    forget_initial_epoch,
    remember_epoch_iterators,
)
from keras_extras.callbacks.compiled_optimizer import check_optimizer, optimizer_config
from keras_extras.callbacks.repeated_data import RepeatedData
from keras_extras.callbacks.training_state import (
    load_callback_states,
    load_training_state,
    save_callback_states,
    save_training_state,
)

_FILE = "training.json"
_BACKUPS = ("epoch_*", ".epoch_*")  # The latter are those that a kill left unfinished.


class BackupAndResume(keras.callbacks.Callback):
    """Backs training up at the end of each epoch, and goes on from there when it is started again.

    Run the same script again after a crash: `fit` starts after the last epoch that was backed up,
    and ends with the weights that it would have had. What `keras.callbacks.BackupAndRestore`
    leaves to chance is certain here:

    - A kill at any moment leaves a whole backup. Each is written to its own folder, which gets
      its name once it is complete.
    - Weights, state of the optimizer and number of the epoch are always of one moment.
    - Layers that draw random numbers, such as `keras.layers.Dropout`, go on with those that come
      next, and not from the start.
    - The data goes on with the batches that come next, shuffled or not: arrays, `tf.data.Dataset`,
      `keras.utils.PyDataset` and generators, with and without `steps_per_epoch`. To this end the
      batches of all epochs that are done are drawn again and left aside. The callback warns in the
      first epoch of data that may be another when the script runs again, such as a dataset that
      is shuffled without a seed.
    - Callbacks in `stateful`, such as `SWAG`, go on with what they collected.

    It belongs at the end of the list of callbacks, after those that change the model at the end of
    an epoch. Call `keras.utils.set_random_seed` at the start of the script. `History` holds the
    epochs since the restart, and other callbacks, such as `keras.callbacks.EarlyStopping`, start
    again. If the learning rate differs from that of the backup, the callback warns and keeps the
    one of the backup.

    Args:
        backup_dir: String or path, the folder of the backups of this one training.
        delete_backup: Boolean, whether the backups are deleted once `fit` is through. Defaults to
            `True`.
        stateful: List of callbacks that go on with their state, each with `get_state` and
            `set_state` as `SWAG` has them. They stand before this one in `callbacks`. Defaults to
            `()`.

    Raises:
        TypeError: If `backup_dir` is no path, `delete_backup` no boolean, or a callback in
            `stateful` has no state.
        OSError: In `fit`, if the folder cannot be written to.
        RuntimeError: In `fit`, if another process uses the folder.
        ValueError: In `fit`, if the model was not built, or the backup is of another model or
            optimizer.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    keras.utils.set_random_seed(0)
    x = np.linspace(-1.0, 1.0, 64)[:, None]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras_extras.optimizers.MonteCarloOptimizer(0.05), "mse")
    backup = keras_extras.callbacks.BackupAndResume("outputs/backup")
    model.fit(x, 2.0 * x, epochs=5, callbacks=[backup], verbose=0)
    ```
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike,
        delete_backup: bool = True,
        stateful: Sequence[keras.callbacks.Callback] = (),
    ):
        super().__init__()
        if not isinstance(backup_dir, str | os.PathLike) or not str(backup_dir):
            raise TypeError(
                f"`backup_dir` must be the path of a folder. Received: backup_dir={backup_dir!r}"
            )
        self.backup_dir = Path(backup_dir)
        self.delete_backup = check_flag("delete_backup", delete_backup)
        is_list = isinstance(stateful, list | tuple)
        if not is_list or not all(hasattr(callback, "set_state") for callback in stateful):
            raise TypeError(
                "`stateful` must be a list of callbacks with `get_state` and `set_state`, such as "
                f"`keras_extras.callbacks.SWAG`. Received: stateful={stateful!r}"
            )
        self.stateful = list(stateful)
        remember_epoch_iterators()

    def on_train_begin(self, logs: Any = None) -> None:
        lock_folder(self.backup_dir, "backup_dir")
        backups = sorted(self.backup_dir.glob("epoch_*"))
        saved = _read(backups[-1]) if backups else None
        self._optimizer = optimizer_config(self.model.optimizer)
        if saved is not None:
            check_optimizer(saved["optimizer"], self._optimizer)
            self._optimizer = saved["optimizer"]
            load_training_state(self.model, backups[-1])
            load_callback_states(self.stateful, backups[-1])
        self._data = RepeatedData(self.model, saved and saved["data"])
        self._epochs = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # By now this `fit` knows where it starts, and later ones start at their own.
        forget_initial_epoch(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._epochs += 1
        before = [path for name in _BACKUPS for path in self.backup_dir.glob(name)]
        with whole_folder(self.backup_dir / f"epoch_{epoch + 1:06d}") as folder:
            save_training_state(self.model, folder, epoch + 1)
            save_callback_states(self.stateful, folder)
            content = {"optimizer": self._optimizer, "data": self._data.state(self._epochs)}
            (folder / _FILE).write_text(json.dumps(content))
        for path in before:
            shutil.rmtree(path)

    def on_train_end(self, logs: Any = None) -> None:
        forget_initial_epoch(self.model)
        release_folder(self.backup_dir)
        if self.delete_backup:
            remove_folders(self.backup_dir, *_BACKUPS)


def _read(folder):
    try:
        content = read_json(folder / _FILE, "a part of a backup")
        return {name: content[name] for name in ("optimizer", "data")}
    except (FileNotFoundError, KeyError, TypeError) as error:
        raise ValueError(
            "`backup_dir` must hold backups of this version of `BackupAndResume`. Received: "
            f"{str(folder)!r}, without a sound {_FILE}. Delete the folder to start again"
        ) from error
