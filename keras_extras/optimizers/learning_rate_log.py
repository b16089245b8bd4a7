"""Puts the learning rate into the logs of `fit`, beside the metrics."""

import functools

import keras
from keras import ops


def log_learning_rate_of(optimizer_class: type) -> None:
    """Lets `fit` log `learning_rate` for models that an `optimizer_class` trains.

    Training does not depend on it. It wraps `make_train_function` of Keras' trainer, once; on
    backends other than TensorFlow, whose train functions return more than logs, it does nothing.
    """
    trainer = next(cls for cls in keras.Model.__mro__ if "make_train_function" in vars(cls))
    stock = trainer.make_train_function
    if keras.backend.backend() != "tensorflow" or hasattr(stock, "logs_learning_rate_of"):
        return

    @functools.wraps(stock)
    def make_train_function(self, force=False):
        made_before = self.train_function
        stock(self, force)
        optimizer = self.optimizer
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer = optimizer.inner_optimizer
        if self.train_function is made_before or not isinstance(optimizer, optimizer_class):
            return
        train_function = self.train_function

        def logging_train_function(iterator):
            logs = train_function(iterator)
            return {**logs, "learning_rate": ops.copy(optimizer.learning_rate)}

        self.train_function = logging_train_function

    vars(make_train_function)["logs_learning_rate_of"] = optimizer_class
    trainer.make_train_function = make_train_function
