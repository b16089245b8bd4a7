"""RepeatedData: takes the data of a `fit` that was interrupted to where it was."""

import logging
import warnings
import weakref
from typing import Any

import keras

from keras_extras._core.fingerprint import fingerprint
from keras_extras._core.random_states import global_random_states, set_global_random_states
from keras_extras._seams.epoch_iterator import (
    dataset_of,
    epoch_iterator_of,
    first_batch_of,
    leave_an_epoch_aside,
    reads_generator,
)
from keras_extras._seams.repeated_dataset import chance_in

_LOGGER = logging.getLogger("keras_extras")

# Datasets go on from where another `fit` of this process left them.
_trained_on: weakref.WeakSet = weakref.WeakSet()


class RepeatedData:
    """Draws the batches of all epochs that are done, and leaves them aside.

    Before, the global generators of `random` and `numpy.random` are set to what they were when
    training began: Keras draws the order of PyDatasets from them and, on JAX, that of arrays. What
    comes next is then what would have come, of any data that is the same when the script runs
    again. Data of which this is not certain is warned of when training begins.

    Args:
        model: The model, in `on_train_begin`.
        saved: What `state` returned in the process before; `None` where training begins.
    """

    def __init__(self, model: keras.Model, saved: dict[str, Any] | None):
        self._model = model
        self._iterator = epoch_iterator_of(model)
        if self._iterator is None:
            warnings.warn(
                "BackupAndResume goes on with the batches that come first: it knows only the data "
                f"of `keras.Model.fit`. Received: {type(model).__name__} with its own `fit`",
                stacklevel=2,
            )
            self._state = saved or self._start(None)
            return
        self._dataset = dataset_of(self._iterator)
        if saved is None:
            self._begin()
        else:
            self._go_on(saved)
        if self._dataset is not None:
            _trained_on.add(self._dataset)

    def state(self, epochs: int) -> dict[str, Any]:
        """Returns what the next process needs, as JSON takes it, after that many more epochs."""
        return {**self._state, "epochs": self._state["epochs"] + epochs}

    def _start(self, first_batch):
        return {
            "epochs": 0,
            "random_states": global_random_states(),
            "first_batch": first_batch,
        }

    def _begin(self):
        first_batch = self._first_batch()
        self._state = self._start(first_batch)
        reason = None
        if first_batch != self._first_batch():
            reason = "`x` are arrays, which are shuffled, and no seed is set"
        elif reads_generator(self._iterator):
            reason = "`x` is a generator, which is run from its start again"
        elif found := chance_in(self._dataset):
            reason = f"`x` is a tf.data.Dataset {found}"
        if reason:
            warnings.warn(
                "After an interruption, BackupAndResume goes on with other batches than those "
                f"that would have come, unless they come again when the script does: {reason}. "
                "Call `keras.utils.set_random_seed` at the start of the script, before the data "
                "is made, and take all that is random from there or from its own seeds.",
                stacklevel=2,
            )

    def _go_on(self, saved):
        self._state = saved
        reason = None
        if self._dataset is not None and self._dataset in _trained_on:
            reason = (
                f"`x` is a {type(self._dataset).__name__} that was trained on in this process, and "
                "goes on from where it was left. Make it again"
            )
        elif self._first_batch() != saved["first_batch"]:
            reason = (
                "the first batch is not that of the `fit` that was interrupted. Make the data "
                "again, with the same seed of `keras.utils.set_random_seed`"
            )
        if reason:
            warnings.warn(
                "BackupAndResume cannot go on with the batches that would have come: " + reason,
                stacklevel=2,
            )
        set_global_random_states(saved["random_states"])
        if saved["epochs"]:
            _LOGGER.info(
                "BackupAndResume leaves the batches of past epochs aside. Their number: %d",
                saved["epochs"],
            )
        for _ in range(saved["epochs"]):
            leave_an_epoch_aside(self._iterator)

    def _first_batch(self):
        """A hash of the first batch of arrays, or of a generator; `None` of other data.

        Others cannot be looked at without consequence.
        """
        states = global_random_states()
        batch = first_batch_of(self._iterator)
        set_global_random_states(states)
        if batch is None:
            return None
        if strategy := getattr(self._model, "distribute_strategy", None):
            batch = keras.tree.map_structure(strategy.experimental_local_results, batch)
        return fingerprint(batch)
