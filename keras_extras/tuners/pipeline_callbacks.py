"""Lets keras-tuner's own callbacks see the pipeline where they are attached to its classifier."""

from collections.abc import Sequence
from typing import Any

import keras


class _OfPipeline(keras.callbacks.Callback):
    """Passes the ends of epochs on to a callback, with the pipeline as its model."""

    def __init__(self, pipeline: keras.Model, callback: keras.callbacks.Callback):
        super().__init__()
        callback.set_model(pipeline)
        self._callback = callback

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._callback.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._callback.on_epoch_end(epoch, logs)


def of_pipeline(
    pipeline: keras.Model, callbacks: Sequence[keras.callbacks.Callback]
) -> list[keras.callbacks.Callback]:
    """Returns callbacks for the classifier; those of keras-tuner save the whole pipeline.

    Args:
        pipeline: The model of the trial.
        callbacks: What `search` hands to `fit`, the user's own among them, which stop and change
            the stage that they are attached to.
    """
    return [
        _OfPipeline(pipeline, callback)
        if type(callback).__module__.startswith("keras_tuner.")
        else callback
        for callback in callbacks
    ]
