"""The whole state of a training between two epochs, in a folder."""

from collections.abc import Sequence
from pathlib import Path

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


def _keras_backup(model, folder):
    """Keras' own callback, which knows how to write a model's state and to read it."""
    callback = keras.callbacks.BackupAndRestore(str(folder), delete_checkpoint=False)
    callback.set_model(model)
    return callback


def _random_states(model) -> Sequence[keras.Variable]:
    """The variables that Keras does not save."""
    return [v for v in model.variables if is_seed(v)]
