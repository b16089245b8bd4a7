"""MonteCarloHyperModel: the settings of MonteCarloOptimizer, for any model."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.hyperparameters import Choice, Float, Int

from keras_extras._core.docstrings import fill_docstring
from keras_extras.optimizers import MonteCarloOptimizer
from keras_extras.tuners.hyper_model_arguments import space_arguments
from keras_extras.tuners.tasks import make_all
from keras_extras.tuners.tunable import Tunable

_SETTINGS = ("population_size", "sigma", "learning_rate", "update_probability", "noise")


@fill_docstring(space=space_arguments("monte_carlo"))
class MonteCarloHyperModel(Tunable):
    """Any model, trained by `MonteCarloOptimizer`, whose settings are searched.

    | space | default |
    |---|---|
    | `"population_size"` | 32 to 512, doubling |
    | `"sigma"` | 0.01 to 0.5, logarithmic |
    | `"learning_rate"` | 1e-3 to 3e-2, logarithmic |
    | `"update_probability"` | 1.0, 0.5, 0.2 |
    | `"noise"` | `"orthogonal"`, `"low_rank"` |
    | `"batch_size"` | 64 to 512, doubling |
    | `"epochs"` | 10 to 100 |

    Args:
        model: Function from `keras_tuner.HyperParameters` to a new model, or a
            `keras_tuner.HyperModel`. How that model is compiled does not matter. What it searches
            needs names that the table does not have.
        loss: The loss, as in `keras.Model.compile`; it needs no gradient.
        metrics: List of metrics, as in `keras.Model.compile`. Defaults to `None`.
        optimizer: Dict of further arguments of `MonteCarloOptimizer`, such as `transforms`.
            Defaults to `None`.
        {space}

    Raises:
        TypeError: If `model` cannot be called, or `space` is no dict.
        ValueError: If an entry of `space` is unknown or empty.

    Example:

    ```python
    import keras
    import keras_extras
    import keras_tuner
    import numpy as np

    x = np.random.default_rng(0).normal(size=(64, 3))
    y = x[:, :1] > 0.0
    hypermodel = keras_extras.tuners.MonteCarloHyperModel(
        lambda hp: keras.Sequential([keras.layers.Dense(1, activation="sigmoid")]),
        loss=keras_extras.losses.ZeroOneLoss(),
        space={"population_size": 32, "batch_size": 64, "epochs": 2},
    )
    tuner = keras_tuner.RandomSearch(
        hypermodel, "val_loss", max_trials=1, directory="outputs/monte_carlo", overwrite=True
    )
    tuner.search(x, y, validation_data=(x, y), verbose=0)
    ```
    """

    searches_more = True

    def __init__(
        self,
        model: Callable[[keras_tuner.HyperParameters], keras.Model] | keras_tuner.HyperModel,
        loss: Any,
        metrics: Any = None,
        optimizer: Mapping[str, Any] | None = None,
        space: Mapping[str, Any] | None = None,
        name: str = "monte_carlo",
        tunable: bool = True,
    ):
        defaults = {
            "population_size": Int("population_size", 32, 512, step=2, sampling="log", default=256),
            "sigma": Float("sigma", 0.01, 0.5, sampling="log", default=0.1),
            "learning_rate": Float("learning_rate", 1e-3, 3e-2, sampling="log", default=5e-3),
            "update_probability": Choice("update_probability", [1.0, 0.5, 0.2]),
            "noise": Choice("noise", ["orthogonal", "low_rank"]),
            "batch_size": Int("batch_size", 64, 512, step=2, sampling="log", default=256),
            "epochs": Int("epochs", 10, 100, step=10, default=30),
        }
        super().__init__(defaults, space, {}, name, tunable)
        if not callable(model) and not isinstance(model, keras_tuner.HyperModel):
            raise TypeError(
                "`model` must be a function from hyperparameters to a new model, or a "
                f"keras_tuner.HyperModel. "
                f"Received: model={model!r}"
            )
        self.model: Any = model
        self.loss = loss
        self.metrics = metrics
        self.optimizer = dict(optimizer or {})

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Returns the compiled model of a trial."""
        values = self.values(hp)
        is_hypermodel = isinstance(self.model, keras_tuner.HyperModel)
        model = self.model.build(hp) if is_hypermodel else self.model(hp)
        settings = {key: values[key] for key in _SETTINGS}
        model.compile(
            MonteCarloOptimizer(**settings, **self.optimizer),
            self.loss,
            metrics=make_all(self.metrics),
        )
        return model

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        super().declare_hyperparameters(hp)
        if isinstance(self.model, keras_tuner.HyperModel):
            self.model.declare_hyperparameters(hp)
