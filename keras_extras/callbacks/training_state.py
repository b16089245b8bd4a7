"""The whole state of a training between two epochs, in a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.files import read_arrays
from keras_extras._core.model_function import is_seed


def save_training_state(model: keras.Model, folder: Path, epoch: int) -> None:
    """Writes weights, optimizer, random states and the number of epochs done."""
    _keras_backup(model, folder).on_epoch_end(epoch - 1)
    states = {str(n): ops.convert_to_numpy(v) for n, v in enumerate(_random_states(model))}
    np.savez(folder / "random_states.npz", **states)


def load_training_state(model: keras.Model, folder: Path) -> None:
    """Reads what `save_training_state` wrote; the next `fit` starts at its epoch.

    Raises:
        ValueError: If the model was not built, or the state is of another model or not whole.
    """
    try:
        _keras_backup(model, folder).on_train_begin()
        states = read_arrays(folder / "random_states.npz", "the random states of a model")
        for number, variable in enumerate(_random_states(model)):
            variable.assign(states[str(number)])
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"`model` must be built, and the one that {folder} is a backup of; delete the folder "
            f"to start again. Received: model={model.name!r}, which does not fit: {error}"
        ) from error


def save_callback_states(callbacks: Sequence[Any], folder: Path) -> None:
    """Writes what the callbacks return by `get_state`, dicts of arrays."""
    for number, callback in enumerate(callbacks):
        np.savez(folder / f"callback_{number}.npz", **callback.get_state())


def load_callback_states(callbacks: Sequence[Any], folder: Path) -> None:
    """Gives the callbacks what `save_callback_states` wrote, by `set_state`.

    Raises:
        ValueError: If the backup has no state of a callback, or it is not whole.
    """
    for number, callback in enumerate(callbacks):
        try:
            state = read_arrays(folder / f"callback_{number}.npz", "the state of a callback")
            callback.set_state(state)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"`stateful` must be the callbacks that {folder} is a backup of; delete the folder "
                f"to start again. Received: a {type(callback).__name__}, which does not fit: "
                f"{error}"
            ) from error


def _keras_backup(model, folder):
    """Keras' own callback, which knows how to write a model's state and to read it."""
    callback = keras.callbacks.BackupAndRestore(str(folder), delete_checkpoint=False)
    callback.set_model(model)
    return callback


def _random_states(model) -> Sequence[keras.Variable]:
    """The variables that Keras does not save."""
    return [v for v in model.variables if is_seed(v)]
