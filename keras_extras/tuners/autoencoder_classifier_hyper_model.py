"""AutoencoderClassifierHyperModel: pipelines of two stages, each with its own optimizer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.hyperparameters import Choice, Float, Int

from keras_extras._core.checks import check_integer
from keras_extras._core.docstrings import fill_docstring
from keras_extras.layers import EinsteinLatent, ScaleShift
from keras_extras.optimizers import MonteCarloOptimizer
from keras_extras.pipelines import AutoencoderClassifier
from keras_extras.tuners.hyper_model_arguments import RAISES, space_arguments
from keras_extras.tuners.pipeline_callbacks import of_pipeline
from keras_extras.tuners.tasks import Task, make_all
from keras_extras.tuners.tunable import Tunable, When, check_objective, check_rows

_EINSTEIN_FORMS = ("field_equation", "linear", "log", "inverse", "diagonal")
_FORMS = ("dense", *_EINSTEIN_FORMS, "tensor")
_BY_GRADIENT = ("adam", "adamw")
# With the settings that the space has for each.
_OPTIMIZERS = {
    "adam": (keras.optimizers.Adam, ("learning_rate",)),
    "adamw": (keras.optimizers.AdamW, ("learning_rate", "weight_decay")),
    "monte_carlo": (MonteCarloOptimizer, ("population_size",)),
}
_SCHEDULES = ("constant", "cosine")


@fill_docstring(space=space_arguments("autoencoder_classifier"), raises=RAISES)
class AutoencoderClassifierHyperModel(Tunable):
    """Autoencoders that compress the inputs, then a classifier on what they encode.

    The model is a `keras_extras.pipelines.AutoencoderClassifier`. Objectives are metrics of its
    classifier, such as `"val_auc"`, or `"val_reconstruction_loss"`, the loss of the autoencoders in
    their last epoch.

    | space | default |
    |---|---|
    | `"form"` | `"dense"`, a linear encoder, or one of `EinsteinLatent`: `"field_equation"`, `"linear"`, `"log"`, `"inverse"`, `"diagonal"`, `"tensor"` |
    | `"latent_units"` | 4 to 16; of all forms but `"tensor"` |
    | `"tensor_order"` | 3, 4, 5, for 6, 10 and 15 latents; of `"tensor"` |
    | `"realizations"` | 1 to 3 autoencoders |
    | `"features"` | `"input+latent"`, `"latent"`: what the classifier sees |
    | `"autoencoder_optimizer"` | `"adam"`, `"adamw"`, `"monte_carlo"` |
    | `"autoencoder_learning_rate"` | 1e-4 to 3e-2, logarithmic; of the two that take gradients |
    | `"autoencoder_population_size"` | 64 to 256, doubling; of `"monte_carlo"` |
    | `"autoencoder_epochs"` | 5 to 30 |
    | `"hidden_layers"` | 1 to 3, of the classifier |
    | `"units"` | 32 to 256, doubling, halved from layer to layer |
    | `"activation"` | `"silu"`, `"relu"`, `"tanh"` |
    | `"dropout"` | 0 to 0.5 |
    | `"classifier_optimizer"` | `"adamw"`, `"adam"`; `"monte_carlo"` can be added |
    | `"classifier_learning_rate"` | 1e-4 to 1e-2, logarithmic; of the two that take gradients |
    | `"classifier_schedule"` | `"constant"`, or `"cosine"`: the learning rate falls to 0 over the epochs; of the same two |
    | `"classifier_weight_decay"` | 1e-4 to 1e-1, logarithmic; of `"adamw"` |
    | `"batch_size"` | 64 to 512, doubling |
    | `"epochs"` | 10 to 60, of the classifier |

    `epochs`, `batch_size` and `callbacks` of `search` are those of the classifier; the batch size
    is that of both stages.

    Args:
        num_features: Integer, the columns of what the autoencoder restores: the inputs, or what
            comes out of the preprocessor.
        num_classes: Integer, the classes. The labels of two are 0 and 1. Defaults to `2`.
        preprocessor: Keras layer or model before both stages, adapted and not trained. Defaults to
            `None`.
        metrics: List of metrics of the predictions, as in `keras.Model.compile`. Defaults to
            `None`.
        seed: Integer, of the pipeline's initial weights. Defaults to `None`.
        {space}

    {raises}

    Example:

    ```python
    import keras_extras
    import keras_tuner
    import numpy as np

    x = np.random.default_rng(0).normal(size=(128, 8))
    y = x[:, 0] > 0.0
    hypermodel = keras_extras.tuners.AutoencoderClassifierHyperModel(
        num_features=8,
        metrics=["AUC"],
        space={
            "form": "diagonal",
            "latent_units": [2, 3],
            "autoencoder_optimizer": "adam",
            "autoencoder_epochs": 1,
            "epochs": 1,
        },
    )
    tuner = keras_tuner.RandomSearch(
        hypermodel,
        keras_tuner.Objective("val_AUC", "max"),
        max_trials=1,
        directory="outputs/pipelines",
        overwrite=True,
    )
    tuner.search(x, y, validation_split=0.25, verbose=0)
    pipeline = tuner.get_best_models()[0]
    pipeline.encode(x).shape
    ```
    """  # noqa: E501

    def __init__(
        self,
        num_features: int,
        num_classes: int = 2,
        preprocessor: keras.layers.Layer | None = None,
        metrics: Any = None,
        seed: int | None = None,
        space: Mapping[str, Any] | None = None,
        name: str = "autoencoder_classifier",
        tunable: bool = True,
    ):
        not_tensor = ("dense", *_EINSTEIN_FORMS)
        defaults = {
            "form": Choice("form", list(_FORMS), default="diagonal"),
            "latent_units": When(Int("latent_units", 4, 16, default=10), "form", not_tensor),
            "tensor_order": When(Choice("tensor_order", [3, 4, 5], default=4), "form", ("tensor",)),
            "realizations": Int("realizations", 1, 3),
            "features": Choice("features", ["input+latent", "latent"]),
            "autoencoder_optimizer": Choice("autoencoder_optimizer", list(_OPTIMIZERS)),
            "autoencoder_learning_rate": When(
                Float("autoencoder_learning_rate", 1e-4, 3e-2, sampling="log", default=3e-3),
                "autoencoder_optimizer",
                _BY_GRADIENT,
            ),
            "autoencoder_population_size": When(
                Int("autoencoder_population_size", 64, 256, step=2, sampling="log"),
                "autoencoder_optimizer",
                ("monte_carlo",),
            ),
            "autoencoder_epochs": Int("autoencoder_epochs", 5, 30, step=5, default=10),
            "hidden_layers": Int("hidden_layers", 1, 3, default=2),
            "units": Int("units", 32, 256, step=2, sampling="log", default=128),
            "activation": Choice("activation", ["silu", "relu", "tanh"]),
            "dropout": Float("dropout", 0.0, 0.5, default=0.2),
            "classifier_optimizer": Choice("classifier_optimizer", ["adamw", "adam"]),
            "classifier_learning_rate": When(
                Float("classifier_learning_rate", 1e-4, 1e-2, sampling="log", default=2e-3),
                "classifier_optimizer",
                _BY_GRADIENT,
            ),
            "classifier_schedule": When(
                Choice("classifier_schedule", list(_SCHEDULES)),
                "classifier_optimizer",
                _BY_GRADIENT,
            ),
            "classifier_weight_decay": When(
                Float("classifier_weight_decay", 1e-4, 1e-1, sampling="log", default=4e-3),
                "classifier_optimizer",
                ("adamw",),
            ),
            "batch_size": Int("batch_size", 64, 512, step=2, sampling="log", default=256),
            "epochs": Int("epochs", 10, 60, step=10, default=30),
        }
        known: dict[str, Sequence[str]] = {
            "form": _FORMS,
            "features": ("input+latent", "latent"),
            "autoencoder_optimizer": tuple(_OPTIMIZERS),
            "classifier_optimizer": tuple(_OPTIMIZERS),
            "classifier_schedule": _SCHEDULES,
        }
        super().__init__(defaults, space, known, name, tunable)
        self.num_features = check_integer("num_features", num_features)
        self.task = Task("classification", check_integer("num_classes", num_classes, 2))
        self.preprocessor = preprocessor
        self.metrics = metrics
        self.seed = seed

    def build_from(self, values: dict[str, Any]) -> AutoencoderClassifier:
        pipeline = AutoencoderClassifier(
            encoder=_encoder(values),
            decoder=keras.Sequential(
                [keras.layers.Dense(self.num_features, use_bias=False), ScaleShift()]
            ),
            classifier=self._classifier(values),
            preprocessor=self.preprocessor,
            features=values["features"],
            realizations=values["realizations"],
            seed=self.seed,
        )
        pipeline.compile(
            autoencoder_optimizer=_optimizer(
                values["autoencoder_optimizer"],
                learning_rate=values["autoencoder_learning_rate"],
                population_size=values["autoencoder_population_size"],
            ),
            classifier_optimizer=_optimizer(
                values["classifier_optimizer"],
                learning_rate=values["classifier_learning_rate"],
                weight_decay=values["classifier_weight_decay"],
            ),
            classifier_loss=self.task.loss,
            metrics=make_all(self.metrics),
        )
        return pipeline

    def _classifier(self, values):
        stack = []
        for depth in range(values["hidden_layers"]):
            units = max(1, values["units"] // 2**depth)
            stack.append(keras.layers.Dense(units, activation=values["activation"]))
            stack.append(keras.layers.Dropout(values["dropout"]))
        return keras.Sequential([*stack, self.task.last_layer()], name="classifier")

    def fit(
        self, hp: keras_tuner.HyperParameters, model: Any, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains both stages; returns the history of the classifier, with the loss of the first."""
        values = self.values(hp)
        epochs = kwargs.pop("epochs", values["epochs"])
        # Hyperband counts the epochs that an earlier trial took.
        first_epoch = kwargs.pop("initial_epoch", 0)
        given = kwargs.pop("callbacks", ())
        callbacks = of_pipeline(model, given)
        takes_gradients = values["classifier_optimizer"] in _BY_GRADIENT
        if takes_gradients and values["classifier_schedule"] == "cosine":
            rate = values["classifier_learning_rate"]
            callbacks.append(_CosineDecay(rate, first_epoch, epochs))
        stages = {
            "batch_size": kwargs.pop("batch_size", values["batch_size"]),
            "autoencoder_epochs": values["autoencoder_epochs"],
            "classifier_epochs": epochs - first_epoch,
            "classifier_callbacks": callbacks,
        }
        if self.preprocessor is None:
            check_rows((None, self.num_features), args[0] if args else kwargs.get("x"))
        histories = model.fit(*args, **stages, **kwargs)
        history = histories.classifier
        for key in ("loss", "val_loss"):
            ends = [
                stage.history[key][-1] for stage in histories.autoencoder if key in stage.history
            ]
            if ends:
                name = key.replace("loss", "reconstruction_loss")
                mean = sum(ends) / len(ends)
                history.history[name] = [mean] * len(history.epoch)
        check_objective(history, given)
        return history


def _encoder(values):
    if values["form"] == "dense":
        return keras.layers.Dense(values["latent_units"], use_bias=False)
    order = values["tensor_order"]
    units = order * (order + 1) // 2 if values["form"] == "tensor" else values["latent_units"]
    return EinsteinLatent(units, form=values["form"])


def _optimizer(name, **settings):
    optimizer, names = _OPTIMIZERS[name]
    given = {key: settings.get(key) for key in names}
    return optimizer(**{key: value for key, value in given.items() if value is not None})


class _CosineDecay(keras.callbacks.Callback):
    """Lets the learning rate fall to 0 along half a cosine (Loshchilov and Hutter, 2017)."""

    def __init__(self, initial_rate: float, first_epoch: int, epochs: int):
        super().__init__()
        self._initial_rate, self._first_epoch, self._epochs = initial_rate, first_epoch, epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        progress = (self._first_epoch + epoch) / self._epochs
        rate = 0.5 * self._initial_rate * (1.0 + math.cos(math.pi * progress))
        self.model.optimizer.learning_rate = rate
