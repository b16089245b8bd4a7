"""BayesianHyperModel: networks with uncertain weights and a distribution at their end."""

from collections.abc import Mapping
from typing import Any

import keras
from keras_tuner.engine.hyperparameters import Choice, Float, Int

from keras_extras import layers
from keras_extras._core.checks import check_integer
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import require_probability, tfd
from keras_extras.tuners.hyper_model_arguments import RAISES_OF_TASK, sections_of_likelihood
from keras_extras.tuners.perceptrons import Perceptrons
from keras_extras.tuners.tasks import Task
from keras_extras.tuners.tunable import When

_VARIATIONAL = {
    "flipout": layers.DenseFlipout,
    "local_reparameterization": layers.DenseLocalReparameterization,
    "reparameterization": layers.DenseReparameterization,
}
_KINDS = (*_VARIATIONAL, "mc_dropout", "deterministic")
_HEADS = {
    "normal": layers.IndependentNormal,
    "laplace": layers.IndependentLaplace,
    "student_t": layers.IndependentStudentT,
    "logistic": layers.IndependentLogistic,
}


@fill_docstring(sections=sections_of_likelihood("bayesian", RAISES_OF_TASK))
class BayesianHyperModel(Perceptrons):
    """Perceptrons with uncertain weights whose predictions are distributions.

    `model(x)` is a distribution, the loss its negative log-likelihood with the divergence of the
    weights from their prior, and the metric `"nll"`, without that divergence, compares models:
    search with the objective `keras_tuner.Objective("val_nll", "min")`.

    | space | default |
    |---|---|
    | `"weights"` | `"flipout"`, `"local_reparameterization"`, `"reparameterization"`, `"mc_dropout"`, `"deterministic"` |
    | `"prior_stddev"` | 0.1 to 10, logarithmic; of the three kinds of variational layers |
    | `"kl_weight"` | 0.01 to 1, logarithmic, 1 being that of Bayes' theorem; of those three |
    | `"dropout_rate"` | 0.01 to 0.5, logarithmic; of `"mc_dropout"` |
    | `"hidden_layers"` | 1 to 3 |
    | `"units"` | 16 to 128, doubling |
    | `"activation"` | `"relu"`, `"silu"`, `"tanh"` |
    | `"head"` | `"normal"`, `"laplace"`, `"student_t"`, `"logistic"`; of regression |
    | `"learning_rate"` | 1e-4 to 3e-2, logarithmic, of Adam |
    | `"batch_size"` | 32 to 512, doubling |
    | `"epochs"` | 20 to 200 |

    Args:
        num_features: Integer, the columns of the inputs.
        training_set_size: Integer, the rows that are trained with. The divergence counts by
            `kl_weight / training_set_size`.
        task: `"classification"`, of labels 0, 1, ... as one-hot rows, or `"regression"`. Defaults
            to `"regression"`.
        num_outputs: Integer, the classes or the columns of numbers. Defaults to `1`.
    {sections}

    Example:

    ```python
    import keras_extras
    import keras_tuner
    import numpy as np

    x = np.random.default_rng(0).normal(size=(64, 3))
    y = np.sin(x[:, :1])
    hypermodel = keras_extras.tuners.BayesianHyperModel(
        num_features=3,
        training_set_size=48,
        space={"weights": ["flipout", "mc_dropout"], "batch_size": 16, "epochs": 1},
    )
    tuner = keras_tuner.RandomSearch(
        hypermodel,
        keras_tuner.Objective("val_nll", "min"),
        max_trials=1,
        directory="outputs/bayesian",
        overwrite=True,
    )
    tuner.search(x[:48], y[:48], validation_data=(x[48:], y[48:]), verbose=0)
    tuner.get_best_models()[0](x).stddev()
    ```
    """  # noqa: E501

    def __init__(
        self,
        num_features: int,
        training_set_size: int,
        task: str = "regression",
        num_outputs: int = 1,
        preprocessor: keras.layers.Layer | None = None,
        metrics: Any = None,
        space: Mapping[str, Any] | None = None,
        name: str = "bayesian",
        tunable: bool = True,
    ):
        require_probability(type(self).__name__)
        self.task = Task(task, num_outputs)
        variational = tuple(_VARIATIONAL)
        defaults = {
            "weights": Choice("weights", list(_KINDS)),
            "prior_stddev": When(
                Float("prior_stddev", 0.1, 10.0, sampling="log", default=1.0),
                "weights",
                variational,
            ),
            "kl_weight": When(
                Float("kl_weight", 0.01, 1.0, sampling="log", default=1.0), "weights", variational
            ),
            "dropout_rate": When(
                Float("dropout_rate", 0.01, 0.5, sampling="log", default=0.05),
                "weights",
                ("mc_dropout",),
            ),
            "hidden_layers": Int("hidden_layers", 1, 3),
            "units": Int("units", 16, 128, step=2, sampling="log", default=64),
            "activation": Choice("activation", ["relu", "silu", "tanh"]),
            "head": None if self.task.is_classifier else Choice("head", list(_HEADS)),
            "learning_rate": Float("learning_rate", 1e-4, 3e-2, sampling="log", default=3e-3),
            "batch_size": Int("batch_size", 32, 512, step=2, sampling="log", default=64),
            "epochs": Int("epochs", 20, 200, step=20, default=60),
        }
        known = {"weights": _KINDS, "head": (None,) if self.task.is_classifier else tuple(_HEADS)}
        super().__init__(num_features, preprocessor, metrics, defaults, space, known, name, tunable)
        self.training_set_size = check_integer("training_set_size", training_set_size)

    def build_from(self, values: dict[str, Any]) -> keras.Model:
        if self.task.is_classifier:
            head = layers.OneHotCategorical(self.task.num_outputs, convert_to_tensor_fn="mean")
        else:
            head = _HEADS[values["head"]](self.task.num_outputs, convert_to_tensor_fn="mean")
        stack = self.first_layers()
        for _ in range(values["hidden_layers"]):
            stack.append(self._dense(values, values["units"], values["activation"]))
            if values["weights"] == "mc_dropout":
                stack.append(layers.MCDropout(values["dropout_rate"]))
        model = keras.Sequential([*stack, self._dense(values, head.num_params), head])
        return self.compiled_for_likelihood(model, values["learning_rate"])

    def _dense(self, values, units, activation=None):
        layer = _VARIATIONAL.get(values["weights"])
        if layer is None:
            return keras.layers.Dense(units, activation=activation)
        return layer(
            units,
            activation=activation,
            posterior="mean_field",
            prior=tfd.Normal(0.0, values["prior_stddev"]),
            kl_weight=values["kl_weight"] / self.training_set_size,
        )
