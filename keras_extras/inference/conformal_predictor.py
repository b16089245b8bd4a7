"""ConformalPredictor: intervals and sets of classes with a guarantee, from held-out rows."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from scipy.special import expit, softmax

from keras_extras._core.checks import check_choice, check_flag, check_integer, check_share
from keras_extras._core.class_probabilities import class_probabilities
from keras_extras._core.data import check_numbers
from keras_extras.inference.class_labels import check_probabilities, class_indices
from keras_extras.inference.fixed_predictions import num_rows
from keras_extras.inference.nested_intervals import nested_intervals, scores_of
from keras_extras.inference.prediction_function import prediction_function, weights_of

# Of sums of probabilities, which other batches round otherwise.
_ROUNDING = 1e-6


class ConformalPredictor:
    """Intervals and sets of classes that hold the target with at least the stated probability.

    ```
    P(y in C(x)) >= level
    ```

    for a new row that is drawn as the `n` held-out rows were, whatever the predictor: split
    conformal prediction. Each held-out row has a score, and `C(x)` holds all values whose score is
    at most the `ceil((n + 1) level)`-th smallest of them. Without ties the probability is below
    `level + 1 / (n + 1)`. It is over held-out rows and new row together: an average, not a
    probability for each `x`.

    Scores are

    - of predictive distributions the distance of `F(y)` from 1/2, on the scale of a standard
      normal distribution: the intervals lie between two quantiles, of other probabilities than
      `level` where predictions are too sure or not sure enough. For counts and other values with
      probabilities it is that of the first interval that holds the value. Beyond the quantiles of
      4 standard deviations intervals grow linearly.
    - of points, and with `score="residual"` of the means of distributions, the absolute residual,
      divided by `scale(x)` if given;
    - of classes the sum of the probabilities of all classes that are more probable, so that a set
      always holds the most probable class. With `randomized=True` a uniform share of the class'
      own probability is added: sets are smaller, may be empty, and hold the class with a
      probability of `level`, and not more.

    The rows must have no part in training, and all count equally. Targets of several entries have
    an interval for each entry, which holds the entry with that probability.

    References:
        Vovk, Gammerman and Shafer (2005), "Algorithmic learning in a random world"; Chernozhukov,
        Wüthrich and Zhu (2021), "Distributional conformal prediction",
        [arXiv:1909.07889](https://arxiv.org/abs/1909.07889); Romano, Sesia and Candès (2020),
        "Classification with valid and adaptive coverage",
        [arXiv:2006.02544](https://arxiv.org/abs/2006.02544); Gupta, Kuchibhotla and Ramdas (2022),
        "Nested conformal prediction and quantile out-of-bag ensemble methods",
        [arXiv:1910.10562](https://arxiv.org/abs/1910.10562).

    Args:
        predictor: A trained Keras model, of distributions, points, probabilities or logits; a list
            of models; an object with a method `predict_distribution`, such as a `Posterior`, a
            `LaplaceApproximation` or an estimator of `keras_extras.pipelines`; another estimator
            of scikit-learn; or a function from inputs to an array or a distribution.
        x: Inputs of held-out rows, an array of shape `(n, ...)` or a structure of arrays.
        y: Targets, an array of `n` rows: numbers; or labels, integers or one-hot, or those of the
            attribute `classes_` of an estimator.
        from_logits: Boolean, whether a model of classes returns logits rather than probabilities.
            Defaults to `False`.
        scale: Function from inputs to positive numbers of shape `(n,)`, the typical size of errors,
            for residuals; `None` for one size everywhere. Defaults to `None`.
        score: String, the score of predictive distributions: `"distribution"`, or `"residual"`,
            which is narrower where they say little of how errors depend on the inputs. Defaults
            to `"distribution"`.
        randomized: Boolean, whether sets of classes are drawn, as above. Defaults to `False`.
        num_samples: Integer, draws of the weights where a model, list or posterior makes
            distributions. Defaults to `100`.
        batch_size: Integer, rows to predict at once. Defaults to `256`.
        seed: Integer seed of all draws. Defaults to `0`.

    Raises:
        TypeError: If `predictor` has another type.
        ValueError: If `x` and `y` do not fit; if two predictions of one row differ; or, in
            `interval` and `prediction_set`, if targets do not fit the predictions or there are too
            few rows for the level.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import inference

    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    y = x[:, 0] + rng.normal(size=300)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(x[:200], y[:200], verbose=0)
    conformal = inference.ConformalPredictor(model, x[200:], y[200:])
    lower, upper = conformal.interval(x[:5], level=0.9)  # each of shape (5,)
    ```
    """

    def __init__(
        self,
        predictor: Any,
        x: Any,
        y: Any,
        from_logits: bool = False,
        scale: Callable[[Any], Any] | None = None,
        score: str = "distribution",
        randomized: bool = False,
        num_samples: int = 100,
        batch_size: int = 256,
        seed: int = 0,
    ):
        self._from_logits = check_flag("from_logits", from_logits)
        self._randomized = check_flag("randomized", randomized)
        if scale is not None and not callable(scale):
            raise TypeError(f"`scale` must be a function of inputs. Received: scale={scale!r}")
        self._scale = scale
        self._score = check_choice("score", score, ("distribution", "residual"))
        self._seed = check_integer("seed", seed, minimum=0)
        num_samples = check_integer("num_samples", num_samples)
        batch_size = check_integer("batch_size", batch_size)
        self._x = x
        self._y = np.asarray(keras.ops.convert_to_numpy(y) if keras.ops.is_tensor(y) else y)
        if self._y.shape[:1] != (num_rows(x),):
            received = f"{num_rows(x)} rows of x, y.shape={self._y.shape}"
            raise ValueError(f"`x` and `y` must have as many rows. Received: {received}")
        self._predict = prediction_function(predictor, x, num_samples, batch_size, self._seed)
        self.classes_: Any = getattr(predictor, "classes_", None)
        self._weights = weights_of(predictor)
        self._sorted: dict[str, tuple[str, np.ndarray]] = {}

    @property
    def num_rows(self) -> int:
        """How many held-out rows there are."""
        return len(self._y)

    def interval(self, x: Any, level: float | Sequence[float] = 0.9) -> tuple[Any, Any]:
        """Returns intervals of numbers.

        Args:
            x: Inputs, as those of the held-out rows.
            level: Float between 0 and 1, the probability of the intervals, or several, which then
                come along a first axis. Defaults to `0.9`.

        Returns:
            Two arrays, the lower and the upper ends, with rows of the shape of `y`.
        """
        return self._interval_around(self._predict(x, False), x, level)

    def prediction_set(self, x: Any, level: float | Sequence[float] = 0.9) -> np.ndarray:
        """Returns sets of classes.

        Args:
            x: Inputs, as those of the held-out rows.
            level: Float between 0 and 1, the probability of the sets, or several, which then come
                along a first axis. Defaults to `0.9`.

        Returns:
            Boolean array of shape `(n, classes)`, whether each class is in the set of a row.
        """
        return self._set_of(self._predict(x, True), level)

    def predict(self, x: Any) -> Any:
        """Returns what the predictor predicts, an array or a distribution."""
        return self._predict(x, False)

    def intervals_around(self, x: Any) -> Any:
        """Returns the intervals of all scores around the predictions of `x`."""
        return self._around(self._predict(x, False), x)

    def class_scores(self, x: Any) -> np.ndarray:
        """Returns the scores of all classes of `x`, of shape `(n, classes)`."""
        return self._class_scores(self._probabilities(self._predict(x, True)), stream=1)

    def _around(self, prediction, x):
        return nested_intervals(prediction, x, self._scale, self._score)

    def _interval_around(self, prediction, x, level):
        levels = check_levels(level)
        scores = self.sorted_scores("interval")
        thresholds = [scores[rank(one, self.num_rows) - 1] for one in levels]
        intervals = self._around(prediction, x)
        ends = [intervals.ends(threshold) for threshold in thresholds]
        shape = (-1, *self._y.shape[1:])
        lower, upper = (
            np.stack([one.reshape(shape) for one in side]) for side in zip(*ends, strict=True)
        )
        return (lower, upper) if np.ndim(level) else (lower[0], upper[0])

    def _set_of(self, prediction, level):
        levels = check_levels(level)
        scores = self.sorted_scores("set")
        thresholds = [scores[rank(one, self.num_rows) - 1] for one in levels]
        of_classes = self._class_scores(self._probabilities(prediction), stream=1)
        sets = np.stack([of_classes <= threshold + _ROUNDING for threshold in thresholds])
        return sets if np.ndim(level) else sets[0]

    def sorted_scores(self, kind: str) -> np.ndarray:
        """Returns the scores of the held-out rows, in ascending order.

        Args:
            kind: `"interval"` or `"set"`.
        """
        weights = self._weights()
        if self._sorted.get(kind, (None,))[0] != weights:  # None yet, or of a model trained since.
            scores = self._interval_scores() if kind == "interval" else self._set_scores()
            self._sorted[kind] = weights, np.sort(scores, axis=0)
        return self._sorted[kind][1]

    def _interval_scores(self):
        check_numbers("y", self._y)
        intervals = self.intervals_around(self._x)
        if self._y.size != self.num_rows * intervals.num_entries:
            raise ValueError(
                f"`y` must have {intervals.num_entries} numbers in each row, as the predictions. "
                f"Received: y.shape={self._y.shape}. For classes, use `prediction_set`."
            )
        return scores_of(intervals, self._y.reshape(self.num_rows, -1).astype("float64"))

    def _set_scores(self):
        probabilities = self._probabilities(self._predict(self._x, True))
        labels = self._labels(probabilities.shape[1])
        return self._class_scores(probabilities, stream=0)[np.arange(self.num_rows), labels]

    def _labels(self, num_classes):
        if self.classes_ is None:
            check_numbers("y", self._y)
            return class_indices(self._y, num_classes, self.num_rows)
        known = np.isin(self._y, self.classes_)
        if self._y.ndim != 1 or not known.all():
            raise ValueError(
                f"`y` must hold labels of the predictor, {list(self.classes_)}, in one axis. "
                f"Received: y of shape {self._y.shape} with {self._y[~known][:3].tolist()}"
            )
        return np.searchsorted(self.classes_, self._y)

    def _probabilities(self, prediction):
        """Of shape `(n, classes)`, also of two classes."""
        if not hasattr(prediction, "log_prob"):
            values = np.asarray(keras.ops.convert_to_numpy(prediction), "float64")
            check_numbers("predictions", values)
            values = values.reshape(-1, 1) if values.ndim == 1 else values
            if values.ndim != 2:
                raise ValueError(
                    "Predictions of classes must have shape (n,), (n, 1) or (n, classes). "
                    f"Received: shape {values.shape}"
                )
            if self._from_logits:
                values = expit(values) if values.shape[1] == 1 else softmax(values, axis=1)
            check_probabilities(values)
            if values.shape[1] > 1:
                return values
            return np.concatenate([1.0 - values, values], axis=1)
        return np.asarray(class_probabilities(prediction), "float64")

    def _class_scores(self, probabilities, stream):
        """Returns the probability of more probable classes; a part of its own if randomized."""
        order = np.argsort(-probabilities, axis=1, kind="stable")
        ordered = np.take_along_axis(probabilities, order, axis=1)
        more = np.cumsum(ordered, axis=1) - ordered
        if self._randomized:
            # Held-out and new rows draw from streams of their own.
            draw = np.random.default_rng((self._seed, stream)).uniform(size=(len(ordered), 1))
            more = more + draw * ordered
        scores = np.empty_like(more)
        np.put_along_axis(scores, order, more, axis=1)
        return scores


def rank(level: float, count: int) -> int:
    """Returns which of the sorted scores bounds the interval or set, counted from 1.

    Args:
        level: Float between 0 and 1.
        count: Integer, the number of scores.

    Raises:
        ValueError: If there are too few of them.
    """
    # `(count + 1) * level` may exceed a whole number by rounding.
    found = int(np.ceil((count + 1) * level - 1e-9))
    if found > count:
        needed = int(np.ceil(level / (1.0 - level) - 1e-9))
        raise ValueError(
            f"A level of {level} needs at least {needed} held-out rows: with fewer only an endless "
            f"interval, or the set of all classes, has that probability. Received: {count} rows"
        )
    return found


def check_levels(level: float | Sequence[float]) -> list[float]:
    """Returns levels as a list of floats between 0 and 1."""
    if not np.size(level):
        raise ValueError(f"`level` must hold at least one level. Received: level={level}")
    return [check_share("level", one) for one in np.ravel(level).tolist()]
