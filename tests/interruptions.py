"""Callbacks that interrupt training."""

import keras


class _Stop(keras.callbacks.Callback):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def count(self):
        self.number -= 1
        if self.number < 0:
            raise KeyboardInterrupt


class StopAfterEpochs(_Stop):
    """Stops everything once some epochs of all trainings together are done."""

    def on_epoch_end(self, epoch, logs=None):
        self.count()


class StopAfterBatches(_Stop):
    """Interrupts training after some batches."""

    def on_train_batch_end(self, batch, logs=None):
        self.count()
