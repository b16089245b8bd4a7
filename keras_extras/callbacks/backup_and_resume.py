"""BackupAndResume: training that goes on after a kill as if there had been none."""

import os
import shutil
from pathlib import Path
from typing import Any

import keras

from keras_extras._core.checks import check_flag
from keras_extras._core.files import remove_folders, whole_folder
from keras_extras.callbacks.training_state import (
    forget_initial_epoch,
    load_training_state,
    save_training_state,
)

_BACKUPS = ("epoch_*", ".epoch_*")  # The latter are those that a kill left unfinished.


class BackupAndResume(keras.callbacks.Callback):
    """Backs training up at the end of each epoch, and goes on from there when it is started again.

    Run the same script again after a crash: `fit` starts after the last epoch that was backed up,
    and ends with the weights that it would have had. What `keras.callbacks.BackupAndRestore`
    leaves to chance is certain here:

    - A kill at any moment leaves a whole backup. Each is written to a folder of its own, which gets
      its name once it is complete.
    - Weights, state of the optimizer and number of the epoch are always of one moment.
    - Layers that draw random numbers, such as `keras.layers.Dropout`, go on with those that come
      next, and not from the start.

    It belongs at the end of the list of callbacks, after those that change the model at the end of
    an epoch. The order of the batches is repeated if the script calls
    `keras.utils.set_random_seed`, or fits with `shuffle=False`. `History` holds the epochs since
    the restart, and other callbacks, such as `keras.callbacks.EarlyStopping`, start anew.

    Args:
        backup_dir: String or path, the folder of the backups of this one training.
        delete_backup: Boolean, whether the backups are deleted once `fit` is through. Defaults to
            `True`.

    Raises:
        TypeError: If `backup_dir` is no path, or `delete_backup` no boolean.
        ValueError: In `fit`, if the model was not built, or the backup is of another model.

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

    def __init__(self, backup_dir: str | os.PathLike, delete_backup: bool = True):
        super().__init__()
        if not isinstance(backup_dir, str | os.PathLike) or not str(backup_dir):
            raise TypeError(
                f"`backup_dir` must be the path of a folder. Received: backup_dir={backup_dir!r}"
            )
        self.backup_dir = Path(backup_dir)
        self.delete_backup = check_flag("delete_backup", delete_backup)
        self._resumed = False

    def on_train_begin(self, logs: Any = None) -> None:
        backups = sorted(self.backup_dir.glob("epoch_*"))
        self._resumed = bool(backups)
        if backups:
            load_training_state(self.model, backups[-1])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.backup_dir.mkdir(parents=True, exist_ok=True)
        before = [path for name in _BACKUPS for path in self.backup_dir.glob(name)]
        with whole_folder(self.backup_dir / f"epoch_{epoch + 1:06d}") as folder:
            save_training_state(self.model, folder, epoch + 1)
        for path in before:
            shutil.rmtree(path)

    def on_train_end(self, logs: Any = None) -> None:
        if self._resumed:
            forget_initial_epoch(self.model)
        if self.delete_backup:
            remove_folders(self.backup_dir, *_BACKUPS)
