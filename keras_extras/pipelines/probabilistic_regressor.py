"""ProbabilisticRegressor: regression that says how sure it is, for scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_extras._core.checks import check_choice, check_flag, check_share
from keras_extras._core.distribution_kinds import entries_of
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tfd
from keras_extras._seams.sample_weights import check_sample_weight
from keras_extras.inference.posterior_predictive import PosteriorPredictive
from keras_extras.pipelines.calibration import (
    factor_of_average,
    fit_linear,
    leave_one_out,
    mean_of_draws,
    noise_factor,
    own_fold,
    share_of_network,
)
from keras_extras.pipelines.estimator_arguments import NETWORK, TRAINING
from keras_extras.pipelines.probabilistic_estimator import (
    ProbabilisticEstimator,
    sklearn_base,
    validation,
)
from keras_extras.pipelines.probabilistic_networks import CHAINS
from keras_extras.pipelines.table_rows import combine_rows, mean_and_scale


@fill_docstring(network_arguments=NETWORK, training_arguments=TRAINING)
class ProbabilisticRegressor(sklearn_base.RegressorMixin, ProbabilisticEstimator):
    """A neural network with uncertain weights that predicts distributions of numbers.

    It is an estimator of scikit-learn: `fit`, `predict`, `score` (R^2), `clone`, pipelines, grid
    searches and pickling are as there. Inputs and targets are standardized inside. Fits of equal
    arguments and numbers of columns share one compiled network, so that only the first of a cross
    validation compiles.

    References:
        Lakshminarayanan et al. (2017), "Simple and scalable predictive uncertainty estimation using
        deep ensembles", [arXiv:1612.01474](https://arxiv.org/abs/1612.01474); Gal and Ghahramani
        (2016), [arXiv:1506.02142](https://arxiv.org/abs/1506.02142); Sommer et al. (2025),
        "Microcanonical Langevin ensembles", [arXiv:2502.06335](https://arxiv.org/abs/2502.06335),
        of which `"mclmc"` is the recipe; and those of the layers and
        of `keras_extras.inference`.

    Args:
        {network_arguments}
        noise: String, how the noise of the targets is modeled: `"constant"`, one standard
            deviation everywhere, or `"input_dependent"`. Defaults to `"input_dependent"`.
        {training_arguments}

    Attributes:
        weights_: The draws of the weights, arrays of shape `(draws, *shape)`, those of the first
            fold first; of random layers their variational parameters.
        n_features_in_: The number of columns of `X`.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: In `fit`, if an argument is out of range, or `X` and `y` do not fit.

    Example:

    ```python
    import numpy as np
    from keras_extras.pipelines import ProbabilisticRegressor

    x = np.linspace(-1.0, 1.0, 64)[:, None]
    y = x[:, 0] + 0.1 * np.random.default_rng(0).normal(size=64)
    regressor = ProbabilisticRegressor(num_members=3, epochs=5, random_state=0).fit(x, y)
    mean, stddev = regressor.predict(x, return_std=True)
    lower, upper = regressor.predict_interval(x, level=0.9)
    ```
    """

    def __init__(
        self,
        method: str = "ensemble",
        hidden_units: Sequence[int] = (50,),
        activation: str = "relu",
        noise: str = "input_dependent",
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 0.01,
        prior_stddev: float = 1.0,
        dropout_rate: float = 0.05,
        num_members: int = 5,
        num_samples: int = 200,
        num_burnin_steps: int = 200,
        verbose: int = 0,
        random_state: Any = None,
    ):
        self.method = method
        self.hidden_units = hidden_units
        self.activation = activation
        self.noise = noise
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.prior_stddev = prior_stddev
        self.dropout_rate = dropout_rate
        self.num_members = num_members
        self.num_samples = num_samples
        self.num_burnin_steps = num_burnin_steps
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ProbabilisticRegressor":
        """Trains the network.

        Args:
            X: Array of shape `(n, features)`.
            y: Array of shape `(n,)` or `(n, targets)`.
            sample_weight: Array of shape `(n,)`, how often each row counts; whole numbers with
                `"laplace"` and `"nuts"`. Defaults to `None`, once.
        """
        check_choice("noise", self.noise, ("constant", "input_dependent"))
        x, y = validation.validate_data(
            self, X, y, dtype="float64", multi_output=True, y_numeric=True
        )
        weights = check_sample_weight(sample_weight, x)
        self._has_one_target = y.ndim == 1
        x, y, weights = combine_rows(x, y.reshape(len(y), -1).astype("float64"), weights)
        self.y_mean_, self.y_scale_ = mean_and_scale(y, weights)
        self._share = self._factor = np.ones(y.shape[1])
        targets = (y - self.y_mean_) / self.y_scale_
        self._fit_network(x, targets, weights)
        self._linear = fit_linear(self._standardized(x), targets, weights)
        return self

    def _calibrate(self, rows, folds, held_out, fold_of_row, parameters):
        """Finds the share of the networks in the mean, and the width of what is predicted."""
        loc, scale = self._normals(own_fold(parameters, fold_of_row))
        mean = loc.mean(axis=1)
        linear = own_fold(
            [fit_linear(*rows.take(folds != n))(held_out.x)[None] for n in range(self._num_folds)],
            fold_of_row,
        )[0]
        y, weights = held_out.y, held_out.weights.astype("float64")
        of_folds = [self._normals(values) for values in parameters]
        unseen_mean, chances = mean, None
        if self.method in CHAINS:
            loc, scale = (np.concatenate(values, axis=1) for values in zip(*of_folds, strict=True))
            fold_of_draw = np.repeat(np.arange(self._num_folds), loc.shape[1] // self._num_folds)
            is_unseen = (fold_of_row[:, None] == fold_of_draw) & (self.method == "nuts")
            surprise = np.sum(0.5 * ((y[:, None] - loc) / scale) ** 2 + np.log(scale), axis=-1)
            chances = leave_one_out(surprise, is_unseen, held_out.counts() * weights)
            mean = mean_of_draws(loc, chances)
            if self.method == "mclmc":
                unseen_mean = mean
        self._share = share_of_network(linear, unseen_mean, y, weights)
        residuals = y - linear - self._share * (mean - linear)
        self._factor = noise_factor(residuals, loc, scale, weights, chances)
        if self._num_folds > 1 and self.method not in CHAINS:
            means = np.stack([values.mean(axis=1) for values, _ in of_folds])
            variance = np.var(loc, axis=1) + np.mean(np.square(scale), axis=1)
            self._factor *= factor_of_average(
                means, variance, self._share, self._factor, fold_of_row, weights
            )

    def _normals(self, parameters):
        """Means and standard deviations of the draws, of shape `(n, draws, targets)`."""
        prediction = self._predictive(ops.convert_to_tensor(parameters))
        entries = entries_of(prediction.components_distribution)
        loc, scale = (np.asarray(v, "float64") for v in (entries.loc, entries.scale))
        return loc, np.broadcast_to(scale, loc.shape)

    def _calibrated(self, parameters, x):
        """The draws, moved towards the linear fit, and as wide as held-out rows demand."""
        prediction = self._predictive(parameters)
        entries = entries_of(prediction.components_distribution)
        mean = ops.mean(entries.loc, axis=1, keepdims=True)
        share, factor = (v.astype("float32") for v in (self._share, self._factor))
        linear = self._linear(x).astype("float32")[:, None]
        center = linear + share * (mean - linear)
        components = tfd.Normal(center + factor * (entries.loc - mean), factor * entries.scale)
        return PosteriorPredictive(prediction.mixture_distribution, tfd.Independent(components, 1))

    def predict(
        self,
        X: Any,
        return_std: bool = False,
        return_interval: bool = False,
        level: float | Sequence[float] = 0.9,
    ) -> Any:
        """Returns the means of the predictive distributions.

        A scikit-learn `Pipeline` passes the further arguments on:
        `pipeline.predict(X, return_interval=True, level=0.8)`.

        Args:
            X: Array of shape `(n, features)`.
            return_std: Boolean, whether to return the standard deviations, too. Defaults to
                `False`.
            return_interval: Boolean, whether to return the lower and upper ends of intervals, too,
                as `predict_interval` does. Defaults to `False`.
            level: Float or sequence of floats, as of `predict_interval`. Defaults to `0.9`.

        Returns:
            Array of the shape of `y`, or a tuple of it and what was asked for.
        """
        prediction = self._prediction(X)
        mean = self._like_targets(prediction.mean())
        more = []
        if check_flag("return_std", return_std):
            more.append(self._like_targets(prediction.stddev(), 0.0))
        if check_flag("return_interval", return_interval):
            more += self._interval(prediction, level)
        return (mean, *more) if more else mean

    def predict_interval(
        self, X: Any, level: float | Sequence[float] = 0.9
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns central intervals of the predictive distributions.

        Args:
            X: Array of shape `(n, features)`.
            level: Float between 0 and 1, the probability of the intervals, or a sequence of them.
                Defaults to `0.9`.

        Returns:
            Two arrays of the shape of `y`, the lower and the upper ends; with several levels these
            come along a first axis.
        """
        return self._interval(self._prediction(X), level)

    def _interval(self, prediction, level):
        if np.ndim(level) == 0:
            level = check_share("level", level)
            lower, upper = prediction.interval(level)
            return self._like_targets(lower), self._like_targets(upper)
        if np.ndim(level) != 1 or len(level) == 0:
            raise ValueError(
                "`level` must be a number or a sequence of at least one number. "
                f"Received: level={level!r}"
            )
        ends = [self._interval(prediction, one) for one in np.asarray(level).tolist()]
        lower, upper = (np.stack(values) for values in zip(*ends))
        return lower, upper

    def _like_targets(self, values, mean=None):
        """In double precision, since targets may be far from zero."""
        mean = self.y_mean_ if mean is None else mean
        values = np.asarray(values, "float64") * self.y_scale_ + mean
        return values[:, 0] if self._has_one_target else values

    def _in_units_of_targets(self, prediction):
        entries = entries_of(prediction.components_distribution)
        mean, scale = (v.astype("float32") for v in (self.y_mean_, self.y_scale_))
        components = tfd.Normal(entries.loc * scale + mean, entries.scale * scale)
        return PosteriorPredictive(prediction.mixture_distribution, tfd.Independent(components, 1))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
