"""PosteriorPredictive: the mixture of a model's distributions over draws of its weights.

It subclasses a class of TensorFlow Probability, so this module is imported with the first
prediction.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_extras._core.checks import check_number, check_share
from keras_extras._core.distribution_kinds import float_dtype
from keras_extras._core.probability import require_probability, static_shape, tf
from keras_extras._core.quantiles import quantile
from keras_extras.inference.class_entropies import ClassEntropies, is_point, unreshaped
from keras_extras.inference.conformal_prediction import ConformalPrediction, conformalize
from keras_extras.inference.weight_function import WeightFunction
from keras_extras.layers.heads.head import Head

tfp: Any = require_probability()
tfd: Any = tfp.distributions
# As classes to derive from.
_Mixture: Any = tfd.MixtureSameFamily
_Reshape: Any = tfd.BatchReshape

# Numbers of all draws of rows whose quantiles are searched together, in about 0.3 GB.
_AT_ONCE = 1_000_000


class PosteriorPredictive(ClassEntropies, _Mixture):
    """The predictive distribution of a model with uncertain weights, given draws of them.

    ```
    p(y | x) = 1/S sum over s of p(y | x, w_s)
    ```

    It is a `tfd.MixtureSameFamily` with a component for each draw: `mean`, `variance`, `stddev`,
    `log_prob`, `sample` and `components_distribution` are TFP's. Batch axes are those of the rows,
    and what the model predicts for a row is one event.

    Of a model whose outputs are no distribution the components are points, without a density.

    `predict_distribution` makes it of a model, and its arguments are those of
    `tfd.MixtureSameFamily`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras
    from keras_extras import layers

    model = keras.Sequential(
        [keras.Input((1,)), layers.DenseFlipout(2), layers.IndependentNormal(1)]
    )
    prediction = keras_extras.predict_distribution(model, np.ones((3, 1)), num_samples=20)
    prediction.num_samples  # 20
    prediction.stddev()
    prediction.epistemic_variance()
    ```
    """

    # Function from a slice of rows to their prediction, where `predict_distribution` made it.
    _of_rows: Callable | None = None
    # The predictor that made it, or a function of inputs, and a function that returns its inputs.
    _predictor: Any = None
    _inputs: Callable | None = None

    @property
    def num_samples(self) -> int:
        """How many draws of the weights there are."""
        return self.components_distribution.batch_shape[-1]

    def aleatoric_variance(self) -> Any:
        """The mean over draws of the variance of each: the noise that more data do not remove."""
        return ops.mean(self.components_distribution.variance(), axis=self._draw_axis)

    def epistemic_variance(self) -> Any:
        """The variance over draws of the mean of each: what is not known of the weights.

        With `aleatoric_variance` it adds up to `variance`, by the law of total variance.
        """
        return ops.var(self.components_distribution.mean(), axis=self._draw_axis)

    def _entropy(self) -> Any:
        entropy = self.predictive_entropy()
        labels = static_shape(entropy)[1:]
        # The joint entropy of several labels is no sum: draws of the weights tie them together.
        if labels.num_elements() not in (None, 1):
            raise NotImplementedError(
                "`entropy` of several labels of a row at once has no closed form. Use the entropy "
                "of each label, from `class_probabilities()`. "
                f"Received: labels of shape {tuple(labels)} in each row"
            )
        return ops.reshape(entropy, (-1,))

    def _mode(self) -> Any:
        kind, _ = self._class_probabilities_of_draws("mode")
        probabilities = self.class_probabilities()
        if kind is tfd.Bernoulli:
            return ops.cast(probabilities > 0.5, self.dtype)
        classes = ops.argmax(probabilities, axis=-1)
        if isinstance(unreshaped(self.components_distribution), tfd.OneHotCategorical):
            return ops.one_hot(classes, probabilities.shape[-1], dtype=self.dtype)
        return ops.cast(classes, self.dtype)

    def quantile(self, value: float | Sequence[float], **kwargs: Any) -> Any:
        """The quantiles of each entry by itself.

        Args:
            value: Float between 0 and 1, or several, which then come along a first axis.
            **kwargs: Not used; there for TFP.

        Returns:
            Tensor of the shape of `mean`.

        Raises:
            TypeError: If `value` is not a number.
            ValueError: If it is not between 0 and 1.
        """
        values = [
            check_number("value", one, at_least=0.0, at_most=1.0)
            for one in np.ravel(value).tolist()
        ]
        value = np.reshape(values, np.shape(value)).tolist()
        if is_point(self.components_distribution):
            points = self.components_distribution.mean()
            return tfp.stats.percentile(
                points, 100.0 * np.asarray(value), axis=self._draw_axis, interpolation="linear"
            )
        plain = tfd.MixtureSameFamily(self.mixture_distribution, self.components_distribution)
        numbers_of_row = self.num_samples * self.event_shape.num_elements()
        at_once = max(1, _AT_ONCE // numbers_of_row)
        if self._of_rows is None or self.batch_shape[0] <= at_once:
            return quantile(plain, value)
        starts = range(0, self.batch_shape[0], at_once)
        parts = [self._of_rows(slice(start, start + at_once)).quantile(value) for start in starts]
        return ops.concatenate(parts, axis=np.ndim(value))

    def interval(self, level: float | Sequence[float] = 0.9) -> tuple[Any, Any]:
        """Central intervals of each entry.

        Args:
            level: Float between 0 and 1, their probability, or several, which then come along a
                first axis. Defaults to `0.9`.

        Returns:
            Two tensors of the shape of `mean`, the lower and the upper ends.
        """
        if not np.size(level):
            raise ValueError(f"`level` must hold at least one level. Received: level={level}")
        levels = [check_share("level", one) for one in np.ravel(level).tolist()]
        tails = [0.5 - 0.5 * one for one in levels]
        ends = self.quantile([*tails, *(1.0 - tail for tail in tails)])
        low, high = ops.split(ends, 2)
        return (low, high) if np.ndim(level) else (low[0], high[0])

    def conformalize(self, x: Any, y: Any, **kwargs: Any) -> ConformalPrediction:
        """Returns this prediction with intervals, or sets of classes, that have a guarantee.

        The predictor also predicts held-out rows, by the same draws of the weights, and as wide as
        these demand are the intervals then: split conformal prediction. Make a
        `ConformalPredictor` instead for predictions of several inputs.

        Args:
            x: Inputs of held-out rows, which had no part in training.
            y: Their targets.
            **kwargs: `score`, `randomized` and `seed`, as of `ConformalPredictor`.

        Returns:
            A `keras_extras.inference.ConformalPrediction`, with `interval(level)` and
            `prediction_set(level)`.

        Raises:
            ValueError: If this distribution was not made by a predictor; if the predictor has
                changed since; or as of `ConformalPredictor`.
        """
        return conformalize(self, x, y, **kwargs)

    def _log_prob(self, x: Any) -> Any:
        if is_point(self.components_distribution):
            raise NotImplementedError(
                "The model has no likelihood, so its predictions have no density. End it with a "
                "layer of distributions such as `keras_extras.layers.IndependentNormal`, or give "
                "`predict_distribution` a `likelihood`."
            )
        return super()._log_prob(x)

    @property
    def _draw_axis(self):
        return -1 - self.event_shape.rank


def predictive_of(function: WeightFunction, parameters: Any) -> PosteriorPredictive:
    """Returns the mixture of the distributions of all draws.

    Args:
        function: The model.
        parameters: Tensor of shape `(draws, ...)`, the parameters of each draw.
    """
    prediction = _mixture_of(_components(function, parameters))
    prediction._is_sigmoid = function.is_sigmoid
    prediction._of_rows = lambda rows: predictive_of(function, parameters[:, rows])
    return prediction


def _components(function, parameters):
    """A distribution of batch shape `(n, draws)`."""
    if not function.has_likelihood:
        points = tfd.Deterministic(_draws_behind_rows(parameters))
        return tfd.Independent(points, len(parameters.shape) - 2)
    # A row may have several batch axes, one for each entry of a prediction; they are one event.
    of_one_draw = function.distribution(parameters[0]).batch_shape
    draws = parameters.shape[0]
    expected = tf.TensorShape([of_one_draw[0], draws, *of_one_draw[1:]])
    behind_rows = _draws_behind_rows(parameters)
    # With few draws, shapes do not show whether a function counts axes from the left.
    if isinstance(function.head, Head) or draws > max(parameters.shape[2:], default=0):
        components = function.distribution(behind_rows)
        if components.batch_shape == expected:
            return tfd.Independent(components, expected.rank - 2)
    by_row = ops.reshape(behind_rows, (-1, *parameters.shape[2:]))
    components = _BatchReshape(function.distribution(by_row), expected)
    return tfd.Independent(components, expected.rank - 2)


class _BatchReshape(_Reshape):
    """A `BatchReshape` that broadcasts values, as mixtures ask of their components."""

    def log_prob(self, value, *arguments, **keywords):
        return super().log_prob(self._broadcast(value), *arguments, **keywords)

    def prob(self, value, *arguments, **keywords):
        return super().prob(self._broadcast(value), *arguments, **keywords)

    def cdf(self, value, *arguments, **keywords):
        return super().cdf(self._broadcast(value), *arguments, **keywords)

    def _broadcast(self, x):
        shape = self.batch_shape.concatenate(self.event_shape)
        return tf.broadcast_to(x, tf.broadcast_static_shape(static_shape(x), shape))


def _mixture_of(components):
    weights = tfd.Categorical(logits=ops.zeros(components.batch_shape[-1], float_dtype(components)))
    return PosteriorPredictive(weights, components)


def _draws_behind_rows(parameters):
    """From `(draws, rows, ...)` to `(rows, draws, ...)`, so that components are the last axis."""
    axes = range(2, len(parameters.shape))
    return ops.transpose(parameters, (1, 0, *axes))
