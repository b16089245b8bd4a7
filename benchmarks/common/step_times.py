"""StepTimes: how long each step of `fit` or `predict` takes."""

import time

import keras


class StepTimes(keras.callbacks.Callback):
    """Collects the seconds of each step."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)

    on_predict_batch_begin = on_train_batch_begin
    on_predict_batch_end = on_train_batch_end
