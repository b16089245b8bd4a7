"""Tasks of the hypermodels: classes or numbers, with their losses and last layers."""

from typing import Any

import keras

from keras_extras._core.checks import check_choice, check_integer

TASKS = ("classification", "regression")


class Task:
    """Labels of two or more classes, or numbers.

    Args:
        task: `"classification"` or `"regression"`.
        num_outputs: Integer, the classes, of which two have labels 0 and 1 in one column, or the
            columns of numbers.
    """

    def __init__(self, task: str, num_outputs: int):
        self.is_classifier = check_choice("task", task, TASKS) == "classification"
        self.num_outputs = check_integer("num_outputs", num_outputs, 1 + self.is_classifier)

    @property
    def loss(self) -> str:
        """The usual loss of predictions without distributions."""
        if not self.is_classifier:
            return "mean_squared_error"
        is_binary = self.num_outputs == 2
        return "binary_crossentropy" if is_binary else "sparse_categorical_crossentropy"

    def last_layer(self) -> keras.layers.Layer:
        """A new layer that predicts."""
        if not self.is_classifier:
            return keras.layers.Dense(self.num_outputs, name="prediction")
        if self.num_outputs == 2:
            return keras.layers.Dense(1, activation="sigmoid", name="prediction")
        return keras.layers.Dense(self.num_outputs, activation="softmax", name="prediction")


def make_all(metrics: Any) -> Any:
    """Returns metrics for one more model: instances as new ones of the same configuration."""

    def make(metric):
        if isinstance(metric, keras.metrics.Metric):
            return type(metric).from_config(metric.get_config())
        return metric

    return keras.tree.map_structure(make, metrics)
