"""TabularHyperModel: perceptrons for tables, the plain baseline."""

from collections.abc import Mapping
from typing import Any

import keras
from keras_tuner.engine.hyperparameters import Boolean, Choice, Float, Int

from keras_extras._core.docstrings import fill_docstring
from keras_extras.tuners.hyper_model_arguments import RAISES_OF_TASK, space_arguments
from keras_extras.tuners.perceptrons import Perceptrons
from keras_extras.tuners.tasks import Task, make_all


@fill_docstring(space=space_arguments("tabular"), raises=RAISES_OF_TASK)
class TabularHyperModel(Perceptrons):
    """Perceptrons for the rows of a table: what any other hypermodel has to beat.

    | space | default |
    |---|---|
    | `"hidden_layers"` | 1 to 3 |
    | `"units"` | 16 to 256, doubling |
    | `"activation"` | `"relu"`, `"silu"`, `"tanh"` |
    | `"dropout"` | 0 to 0.5 |
    | `"batch_normalization"` | no, yes |
    | `"learning_rate"` | 1e-4 to 1e-2, logarithmic |
    | `"weight_decay"` | 1e-6 to 1e-2, logarithmic, of AdamW |
    | `"batch_size"` | 32 to 512, doubling |
    | `"epochs"` | 10 to 100 |

    What `search` is given, such as `epochs`, goes before the space. For a `tf.data.Dataset`, which
    has its own batches, let the space say `{"batch_size": None}`.

    Args:
        num_features: Integer, the columns of the inputs.
        task: `"classification"`, of labels 0, 1, ..., or `"regression"`. Defaults to
            `"classification"`.
        num_outputs: Integer, the classes or the columns of numbers. Defaults to `2`.
        preprocessor: Keras layer before the network, adapted and not trained, such as
            `keras.layers.Normalization`. Defaults to `None`.
        metrics: List of metrics, as in `keras.Model.compile`. Defaults to `None`.
        {space}

    {raises}

    Example:

    ```python
    import keras_extras
    import keras_tuner
    import numpy as np

    x = np.random.default_rng(0).normal(size=(64, 3))
    y = x[:, 0] > 0.0
    hypermodel = keras_extras.tuners.TabularHyperModel(
        num_features=3, metrics=["accuracy"], space={"units": [4, 8], "batch_size": 32, "epochs": 1}
    )
    tuner = keras_tuner.RandomSearch(
        hypermodel, "val_accuracy", max_trials=1, directory="outputs/tabular", overwrite=True
    )
    tuner.search(x, y, validation_split=0.25, verbose=0)
    model = tuner.get_best_models()[0]
    ```
    """

    def __init__(
        self,
        num_features: int,
        task: str = "classification",
        num_outputs: int = 2,
        preprocessor: keras.layers.Layer | None = None,
        metrics: Any = None,
        space: Mapping[str, Any] | None = None,
        name: str = "tabular",
        tunable: bool = True,
    ):
        defaults = {
            "hidden_layers": Int("hidden_layers", 1, 3, default=2),
            "units": Int("units", 16, 256, step=2, sampling="log", default=64),
            "activation": Choice("activation", ["relu", "silu", "tanh"]),
            "dropout": Float("dropout", 0.0, 0.5),
            "batch_normalization": Boolean("batch_normalization"),
            "learning_rate": Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3),
            "weight_decay": Float("weight_decay", 1e-6, 1e-2, sampling="log", default=1e-4),
            "batch_size": Int("batch_size", 32, 512, step=2, sampling="log", default=128),
            "epochs": Int("epochs", 10, 100, step=10, default=30),
        }
        super().__init__(num_features, preprocessor, metrics, defaults, space, {}, name, tunable)
        self.task = Task(task, num_outputs)

    def build_from(self, values: dict[str, Any]) -> keras.Model:
        stack = self.first_layers()
        for _ in range(values["hidden_layers"]):
            stack.append(keras.layers.Dense(values["units"]))
            if values["batch_normalization"]:
                stack.append(keras.layers.BatchNormalization())
            stack.append(keras.layers.Activation(values["activation"]))
            stack.append(keras.layers.Dropout(values["dropout"]))
        model = keras.Sequential([*stack, self.task.last_layer()])
        optimizer = keras.optimizers.AdamW(
            values["learning_rate"], weight_decay=values["weight_decay"]
        )
        return self.compiled(
            model, optimizer=optimizer, loss=self.task.loss, metrics=make_all(self.metrics)
        )
