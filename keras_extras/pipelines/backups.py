"""One training of several, which goes on after a kill and is not repeated once it is through."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_extras._core.files import read_json, whole_folder
from keras_extras._core.random_states import global_random_states, set_global_random_states
from keras_extras.callbacks.backup_and_resume import BackupAndResume
from keras_extras.callbacks.training_state import load_training_state, save_training_state

_RANDOM_STATES = "global_random_states.json"


def fit_with_backup(
    model: keras.Model,
    x: Any,
    y: Any,
    backup_dir: str | os.PathLike | None,
    name: str,
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    **fit_options: Any,
) -> keras.callbacks.History:
    """`model.fit`, with backups.

    Args:
        model: A compiled and built model.
        x: Inputs.
        y: Targets.
        backup_dir: Folder of the backups of all trainings; None for none.
        name: That of this training, which is the same when it is started again.
        callbacks: As of `fit`.
        **fit_options: Further ones of `fit`.
    """
    callbacks = list(callbacks or [])
    if backup_dir is None:
        return model.fit(x, y, callbacks=callbacks, **fit_options)
    done = Path(backup_dir) / f"{name}_done"
    if done.exists():
        load_training_state(model, done)
        set_global_random_states(read_json(done / _RANDOM_STATES, "a part of a backup"))
        history = keras.callbacks.History()
        history.set_model(model)
        history.on_train_begin()  # makes the empty list of epochs
        return history
    callbacks.append(BackupAndResume(Path(backup_dir) / name, delete_backup=False))
    history = model.fit(x, y, callbacks=callbacks, **fit_options)
    done.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(done) as folder:
        # Callbacks may have changed the weights at the end of training.
        save_training_state(model, folder, epoch=0)
        # The next training draws the order of its batches.
        (folder / _RANDOM_STATES).write_text(json.dumps(global_random_states()))
    return history
