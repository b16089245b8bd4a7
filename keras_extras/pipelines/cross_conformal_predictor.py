"""CrossConformalPredictor: intervals and sets with a guarantee, from all rows, by refitting."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_extras._core.checks import check_integer
from keras_extras._core.optional import import_optional
from keras_extras.inference.conformal_predictor import ConformalPredictor, check_levels, rank

_HALVINGS = 45
# Of sums of probabilities, which other batches round otherwise.
_ROUNDING = 1e-6


class CrossConformalPredictor:
    """Intervals and sets of classes with a guarantee, without rows put aside: CV+.

    The rows are split into folds, and for each fold an estimator is fitted to the other folds. Each
    row has a score by the estimator that was fitted without it, as of `ConformalPredictor`. For a
    new row the estimator of each fold has an interval of each score of its fold,
    `L_i(x)` to `H_i(x)`, and with `alpha = 1 - level`

    ```
    C(x) = [k-th smallest L_i(x), k-th largest H_i(x)],  k = floor(alpha (n + 1))
    ```

    A set holds the classes whose score is at most that of more than `alpha (n + 1) - 1` rows. The
    guarantee, for any estimator, is

    ```
    P(y in C(x)) >= 1 - 2 alpha - min(2 (1 - 1/K) / (n/K + 1), (1 - K/n) / (K + 1))
    ```

    for `K` folds of equal size, and in practice the probability is mostly near `level`, or above it
    where estimators of fewer rows err more. As many folds as rows are the jackknife+.

    References:
        Barber, Candès, Ramdas and Tibshirani (2021), "Predictive inference with the jackknife+",
        theorem 4, [arXiv:1905.02928](https://arxiv.org/abs/1905.02928); Romano, Sesia and Candès
        (2020), [arXiv:2006.02544](https://arxiv.org/abs/2006.02544); Gupta, Kuchibhotla and Ramdas
        (2022), [arXiv:1910.10562](https://arxiv.org/abs/1910.10562).

    Args:
        estimator: An estimator of scikit-learn, such as `ProbabilisticRegressor`, which is cloned
            for each fold; or a function from inputs and targets to a trained predictor, such as a
            Keras model.
        x: Inputs, an array of shape `(n, ...)`.
        y: Targets, an array of `n` rows.
        num_folds: Integer, how many folds there are. Defaults to `5`.
        seed: Integer seed of the folds and of all draws. Defaults to `0`.
        **kwargs: Of `ConformalPredictor`: `from_logits`, `scale`, `score`, `randomized`,
            `num_samples` and `batch_size`.

    Raises:
        TypeError: If `estimator` has another type.
        ValueError: If there are fewer rows than folds, or a class is not in the rows that an
            estimator is fitted to; or as of `ConformalPredictor`.

    Example:

    ```python
    import numpy as np
    from keras_extras.pipelines import CrossConformalPredictor, ProbabilisticRegressor

    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    y = x[:, 0] + rng.normal(size=60)
    estimator = ProbabilisticRegressor(num_members=2, epochs=5, random_state=0)
    conformal = CrossConformalPredictor(estimator, x, y, num_folds=2)
    lower, upper = conformal.interval(x[:5], level=0.8)  # each of shape (5,)
    ```
    """

    def __init__(
        self,
        estimator: Any,
        x: Any,
        y: Any,
        num_folds: int = 5,
        seed: int = 0,
        **kwargs: Any,
    ):
        num_folds = check_integer("num_folds", num_folds, minimum=2)
        seed = check_integer("seed", seed, minimum=0)
        x, y = (_as_array(values) for values in (x, y))
        if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) < num_folds:
            raise ValueError(
                "`x` and `y` must have as many rows, at least one for each fold. "
                f"Received: x.shape={x.shape}, y.shape={y.shape}, num_folds={num_folds}"
            )
        train = _training(estimator)
        folds = np.random.default_rng(seed).permutation(len(x)) % num_folds
        self._num_rows = len(x)
        self._row_shape = y.shape[1:]
        self._folds = [
            ConformalPredictor(
                train(x[folds != fold], y[folds != fold]),
                x[folds == fold],
                y[folds == fold],
                seed=seed,
                **kwargs,
            )
            for fold in range(num_folds)
        ]
        self.classes_ = self._folds[0].classes_
        if any(not np.array_equal(fold.classes_, self.classes_) for fold in self._folds):
            raise ValueError(
                "Each class must be among the rows of all folds but one. Use more folds, or leave "
                "out classes of a single row."
            )

    def interval(
        self, x: Any, level: float | Sequence[float] = 0.9
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns intervals of numbers.

        Args:
            x: Inputs, an array of shape `(n, ...)`.
            level: Float between 0 and 1, the probability of the intervals, or several, which then
                come along a first axis. Defaults to `0.9`.

        Returns:
            Two arrays, the lower and the upper ends, with rows of the shape of `y`.
        """
        levels = check_levels(level)
        ranks = [self._rank(one) for one in levels]
        scores = [fold.sorted_scores("interval") for fold in self._folds]
        around = [fold.intervals_around(x) for fold in self._folds]
        ends = [_ends(around, scores, one) for one in ranks]
        shape = (-1, *self._row_shape)
        lower, upper = (np.stack([v.reshape(shape) for v in side]) for side in zip(*ends))
        return (lower, upper) if np.ndim(level) else (lower[0], upper[0])

    def prediction_set(self, x: Any, level: float | Sequence[float] = 0.9) -> np.ndarray:
        """Returns sets of classes.

        Args:
            x: Inputs, an array of shape `(n, ...)`.
            level: Float between 0 and 1, the probability of the sets, or several, which then come
                along a first axis. Defaults to `0.9`.

        Returns:
            Boolean array of shape `(n, classes)`, whether each class is in the set of a row.
        """
        levels = check_levels(level)
        count = sum(
            _at_least(fold.sorted_scores("set"), fold.class_scores(x) - _ROUNDING)
            for fold in self._folds
        )
        sets = np.stack([count >= self._rank(one) for one in levels])
        return sets if np.ndim(level) else sets[0]

    def _rank(self, level):
        return self._num_rows + 1 - rank(level, self._num_rows)


def _training(estimator):
    """A function from inputs and targets to a predictor."""
    if hasattr(estimator, "fit") and hasattr(estimator, "get_params"):
        base = import_optional("sklearn.base", "sklearn", "`CrossConformalPredictor`")
        return lambda x, y: base.clone(estimator).fit(x, y)
    if not callable(estimator) or hasattr(estimator, "predict"):
        raise TypeError(
            "`estimator` must be an estimator of scikit-learn, or a function from inputs and "
            "targets to a trained predictor, such as a function that makes and fits a Keras model. "
            f"Received: estimator={estimator!r}"
        )
    return estimator


def _as_array(values):
    return np.asarray(keras.ops.convert_to_numpy(values) if keras.ops.is_tensor(values) else values)


def _at_least(ordered, values):
    """How many of scores in ascending order are at least as large as each value."""
    return len(ordered) - np.searchsorted(ordered, values, side="left")


def _ends(around, scores, count):
    """The ends of which `count` rows' intervals lie outside or on them, found by bisection."""
    most = [one.ends(ordered[-1]) for one, ordered in zip(around, scores, strict=True)]
    least = [one.ends(np.zeros_like(ordered[-1])) for one, ordered in zip(around, scores)]
    found = []
    for side, sign in ((0, 1.0), (1, -1.0)):
        # Signed so that both ends are the smallest value that enough intervals reach.
        outside = sign * np.min([sign * ends[side] for ends in most], axis=0)
        inside = sign * np.max([sign * ends[side] for ends in least], axis=0)
        for _ in range(_HALVINGS):
            middle = 0.5 * (outside + inside)
            reached = 0
            for one, ordered in zip(around, scores, strict=True):
                distances = one.distances(middle)[side]
                columns = [_at_least(o, d) for o, d in zip(ordered.T, distances.T, strict=True)]
                reached = reached + np.stack(columns, axis=1)
            is_enough = reached >= count
            outside = np.where(is_enough, outside, middle)
            inside = np.where(is_enough, middle, inside)
        # The side on which the interval is wider by what the search leaves open.
        found.append(outside)
    return found
