"""MixtureDensityHyperModel: networks that predict a mixture of distributions."""

from collections.abc import Mapping
from typing import Any

import keras
from keras_tuner.engine.hyperparameters import Choice, Float, Int

from keras_extras import layers
from keras_extras._core.checks import check_integer
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import require_probability
from keras_extras.tuners.hyper_model_arguments import RAISES, sections_of_likelihood
from keras_extras.tuners.perceptrons import Perceptrons

_FAMILIES = {"normal": layers.MixtureNormal, "logistic": layers.MixtureLogistic}


@fill_docstring(sections=sections_of_likelihood("mixture_density", RAISES))
class MixtureDensityHyperModel(Perceptrons):
    """Perceptrons that predict a mixture, for targets with several answers to one input.

    `model(x)` is a distribution and the loss its negative log-likelihood: search with the objective
    `"val_loss"`.

    | space | default |
    |---|---|
    | `"family"` | `"normal"`, `"logistic"` |
    | `"num_components"` | 1 to 8 |
    | `"hidden_layers"` | 1 to 3 |
    | `"units"` | 16 to 128, doubling |
    | `"activation"` | `"relu"`, `"silu"`, `"tanh"` |
    | `"dropout"` | 0 to 0.3 |
    | `"learning_rate"` | 1e-4 to 3e-2, logarithmic, of Adam |
    | `"batch_size"` | 32 to 512, doubling |
    | `"epochs"` | 20 to 200 |

    References:
        Bishop (1994), "Mixture density networks".

    Args:
        num_features: Integer, the columns of the inputs.
        num_outputs: Integer, the columns of the targets. Defaults to `1`.
    {sections}

    Example:

    ```python
    import keras_extras
    import keras_tuner
    import numpy as np

    x = np.random.default_rng(0).normal(size=(64, 3))
    y = np.abs(x[:, :1])
    tuner = keras_tuner.RandomSearch(
        keras_extras.tuners.MixtureDensityHyperModel(3, space={"batch_size": 16, "epochs": 1}),
        "val_loss",
        max_trials=1,
        directory="outputs/mixture",
        overwrite=True,
    )
    tuner.search(x[:48], y[:48], validation_data=(x[48:], y[48:]), verbose=0)
    tuner.get_best_models()[0](x).log_prob(y)
    ```
    """

    def __init__(
        self,
        num_features: int,
        num_outputs: int = 1,
        preprocessor: keras.layers.Layer | None = None,
        metrics: Any = None,
        space: Mapping[str, Any] | None = None,
        name: str = "mixture_density",
        tunable: bool = True,
    ):
        require_probability(type(self).__name__)
        defaults = {
            "family": Choice("family", list(_FAMILIES)),
            "num_components": Int("num_components", 1, 8, default=3),
            "hidden_layers": Int("hidden_layers", 1, 3),
            "units": Int("units", 16, 128, step=2, sampling="log", default=64),
            "activation": Choice("activation", ["relu", "silu", "tanh"]),
            "dropout": Float("dropout", 0.0, 0.3),
            "learning_rate": Float("learning_rate", 1e-4, 3e-2, sampling="log", default=3e-3),
            "batch_size": Int("batch_size", 32, 512, step=2, sampling="log", default=64),
            "epochs": Int("epochs", 20, 200, step=20, default=60),
        }
        super().__init__(
            num_features,
            preprocessor,
            metrics,
            defaults,
            space,
            {"family": tuple(_FAMILIES)},
            name,
            tunable,
        )
        self.num_outputs = check_integer("num_outputs", num_outputs)

    def build_from(self, values: dict[str, Any]) -> keras.Model:
        stack = self.first_layers()
        for _ in range(values["hidden_layers"]):
            stack.append(keras.layers.Dense(values["units"], activation=values["activation"]))
            stack.append(keras.layers.Dropout(values["dropout"]))
        head = _FAMILIES[values["family"]](
            values["num_components"], self.num_outputs, convert_to_tensor_fn="mean"
        )
        model = keras.Sequential([*stack, keras.layers.Dense(head.num_params), head])
        return self.compiled_for_likelihood(model, values["learning_rate"])
