"""ConformalPrediction: a prediction whose intervals and sets have a guarantee."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_extras.inference.conformal_predictor import ConformalPredictor


class ConformalPrediction:
    """Intervals and sets of classes of one prediction, as a `ConformalPredictor` makes them.

    `PosteriorPredictive.conformalize` returns it.

    Args:
        predictor: The `ConformalPredictor`.
        prediction: The predictive distribution.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras
    from keras_extras import layers

    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 1))
    y = x[:, 0] + rng.normal(size=40)
    model = keras.Sequential(
        [keras.Input((1,)), layers.DenseFlipout(2), layers.IndependentNormal(1)]
    )
    prediction = keras_extras.predict_distribution(model, np.ones((3, 1)), num_samples=20)
    lower, upper = prediction.conformalize(x, y).interval(0.9)
    ```
    """

    def __init__(self, predictor: ConformalPredictor, prediction: Any):
        self.predictor = predictor
        self.prediction = prediction

    def interval(self, level: float | Sequence[float] = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Returns intervals of numbers, as `ConformalPredictor.interval`.

        Args:
            level: Float between 0 and 1, or several, which then come along a first axis. Defaults
                to `0.9`.
        """
        return self.predictor._interval_around(self.prediction, None, level)

    def prediction_set(self, level: float | Sequence[float] = 0.9) -> np.ndarray:
        """Returns sets of classes, as `ConformalPredictor.prediction_set`.

        Args:
            level: Float between 0 and 1, or several, which then come along a first axis. Defaults
                to `0.9`.
        """
        return self.predictor._set_of(self.prediction, level)


def remember_predictor(prediction: Any, predictor: Any, x: Any) -> Any:
    """Returns a posterior predictive that can be conformalized.

    Args:
        prediction: The prediction of `x`.
        predictor: An object with a method `predict_distribution`, or a function from inputs to
            predictions, by the same draws of the weights.
        x: Inputs.
    """
    prediction._predictor = predictor
    prediction._inputs = lambda: x
    return prediction


def conformalize(prediction: Any, x: Any, y: Any, **kwargs: Any) -> ConformalPrediction:
    """Returns a posterior predictive with intervals that have a guarantee.

    Args:
        prediction: The `PosteriorPredictive`.
        x: Inputs of held-out rows.
        y: Their targets.
        **kwargs: Of `ConformalPredictor`.

    Raises:
        ValueError: If it was not made by a predictor, or the predictor has changed since.
    """
    if prediction._inputs is None:
        raise ValueError(
            "`conformalize` is for predictions of `predict_distribution`, which know their "
            "predictor. Use `keras_extras.inference.ConformalPredictor` with a function from "
            "inputs to distributions."
        )
    predictor = ConformalPredictor(prediction._predictor, x, y, **kwargs)
    again = predictor.predict(prediction._inputs())
    if not np.allclose(again.mean(), prediction.mean(), rtol=1e-3, atol=1e-5, equal_nan=True):
        raise ValueError(
            "The predictor no longer predicts what it did: it was trained in the meantime. "
            "Call `predict_distribution` again."
        )
    return ConformalPrediction(predictor, prediction)
