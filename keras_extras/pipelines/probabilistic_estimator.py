"""What the probabilistic regressor and classifier share: training by any method, and draws.

They subclass scikit-learn's, so this module is imported with the first of them.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_extras._core.checks import check_choice, check_integer, check_number
from keras_extras._core.optional import import_optional
from keras_extras._core.probability import require_probability
from keras_extras.inference.laplace_approximation import LaplaceApproximation
from keras_extras.inference.linearized_network import LinearizedNetwork
from keras_extras.inference.posterior_predictive import PosteriorPredictive, predictive_of
from keras_extras.inference.predict_distribution import draw_parameters
from keras_extras.inference.sample_posterior import sample_posterior
from keras_extras.pipelines.probabilistic_networks import (
    METHODS,
    TRAINING,
    NetworkSpec,
    train,
    trainable_network,
)

sklearn_base: Any = import_optional("sklearn.base", "sklearn", "A probabilistic estimator")
sklearn_utils = import_optional("sklearn.utils", "sklearn", "A probabilistic estimator")
multiclass = import_optional("sklearn.utils.multiclass", "sklearn", "A probabilistic estimator")
validation = import_optional("sklearn.utils.validation", "sklearn", "A probabilistic estimator")

_BATCH = 512  # rows of a prediction computed at once
# Of Markov chains: transitions for each draw that is kept, and doublings of a trajectory.
_THINNING = 4
_MAX_TREE_DEPTH = 6
# More covariances than this take longer than the training.
_MOST_WEIGHTS_OF_LAPLACE = 3000


class ProbabilisticEstimator(sklearn_base.BaseEstimator):
    """A perceptron with uncertain weights, behind the interface of scikit-learn.

    A child prepares the targets and says what the network predicts of them.
    """

    def _fit_network(self, x: np.ndarray, y: np.ndarray) -> None:
        """Trains the network on inputs, which are standardised here, and prepared targets."""
        require_probability()
        self._check_parameters()
        self.x_mean_ = x.mean(axis=0)
        self.x_scale_ = scale_of(x)
        x = self._standardized(x)
        y = y.astype("float32")
        self._seed = int(sklearn_utils.check_random_state(self.random_state).randint(2**31 - 1))
        trainable = trainable_network(self._spec(x.shape[1], y.shape[1]))
        with TRAINING:
            weights = train(
                trainable,
                x,
                y,
                self.epochs,
                self.batch_size,
                self.learning_rate,
                self._seed,
                self.verbose,
            )
            if self.method == "nuts":
                weights = self._sample(trainable, x, y, weights)
            if self.method == "laplace":
                self._offsets = self._offsets_of_laplace(trainable, x, y, weights)
        self._num_outputs = y.shape[1]
        self.weights_ = weights

    def _sample(self, trainable, x, y, weights):
        posterior = sample_posterior(
            trainable.network,
            x,
            y,
            prior=trainable.prior,
            initial=weights,
            num_chains=self.num_members,
            num_burnin_steps=self.num_burnin_steps,
            num_results=-(-self.num_samples // self.num_members) * _THINNING,
            max_tree_depth=_MAX_TREE_DEPTH,
            seed=self._seed,
            verbose=self.verbose,
        )
        thinned = [values[:, _THINNING - 1 :: _THINNING] for values in posterior.samples]
        return [values.reshape(-1, *values.shape[2:]) for values in thinned]

    def _offsets_of_laplace(self, trainable, x, y, weights):
        for variable, values in zip(trainable.function.variables, weights, strict=True):
            variable.assign(values[0])
        size = sum(values[0].size for values in weights)
        laplace = LaplaceApproximation(
            trainable.network,
            x,
            y,
            prior_precision=self.prior_stddev**-2,
            hessian="full" if size <= _MOST_WEIGHTS_OF_LAPLACE else "diagonal",
        )
        laplace.optimize_prior_precision()
        return laplace.sample_offsets(self.num_samples, np.random.default_rng(self._seed))

    def predict_distribution(self, X: Any) -> PosteriorPredictive:
        """Returns the posterior predictive distribution of all rows.

        Args:
            X: Array of shape `(n, features)`.

        Returns:
            A `keras_extras.inference.PosteriorPredictive` of batch shape `(n,)`.
        """
        return self._in_units_of_targets(self._prediction(X))

    def _prediction(self, X):
        """The same in the units of the network."""
        validation.check_is_fitted(self)
        x = validation.validate_data(self, X, dtype="float64", reset=False)
        x = self._standardized(x)
        trainable = trainable_network(self._spec(x.shape[1], self._num_outputs))
        parameters = self._parameters(trainable.function, x)
        return predictive_of(trainable.function, parameters)

    def _parameters(self, function, x):
        """What the draws of the network make distributions of, of shape `(draws, n, ...)`."""
        if self.method == "laplace":
            network = LinearizedNetwork.of(function, range(len(self.weights_)))
            mode = [values[0] for values in self.weights_]
            return network.parameters(mode, self._offsets, x, _BATCH)
        draws = len(self.weights_[0])
        repeats = -(-self.num_samples // draws) if function.seed_states else 1
        weights = [np.repeat(values, repeats, axis=0) for values in self.weights_]
        generator = np.random.default_rng(self._seed)
        return draw_parameters(function, x, weights, draws * repeats, _BATCH, generator)

    def _standardized(self, x):
        return ((x - self.x_mean_) / self.x_scale_).astype("float32")

    def _spec(self, num_inputs, num_outputs):
        is_group = self.method in ("ensemble", "nuts")
        return NetworkSpec(
            method=self.method,
            num_inputs=num_inputs,
            num_outputs=num_outputs,
            is_classifier=sklearn_base.is_classifier(self),
            hidden_units=tuple(self.hidden_units),
            activation=self.activation,
            constant_noise=getattr(self, "noise", None) == "constant",
            dropout_rate=float(self.dropout_rate),
            prior_stddev=float(self.prior_stddev),
            num_members=self.num_members if is_group else 1,
            precision=(keras.config.floatx(), keras.config.dtype_policy().name),
        )

    def _check_parameters(self):
        check_choice("method", self.method, METHODS)
        if not isinstance(self.hidden_units, Sequence) or isinstance(self.hidden_units, str):
            raise TypeError(
                "`hidden_units` must be a sequence of integers. "
                f"Received: hidden_units={self.hidden_units!r}"
            )
        for units in self.hidden_units:
            check_integer("hidden_units", units)
        for name in ("epochs", "batch_size", "num_members", "num_samples"):
            check_integer(name, getattr(self, name))
        check_integer("num_burnin_steps", self.num_burnin_steps, minimum=0)
        check_number("learning_rate", self.learning_rate, above=0.0)
        check_number("prior_stddev", self.prior_stddev, above=0.0)
        check_number("dropout_rate", self.dropout_rate, at_least=0.0, at_most=0.99)


def scale_of(values: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of each column, and 1 for constant columns."""
    scale = values.std(axis=0)
    return np.where(scale > 1e-12 * np.abs(values).max(axis=0, initial=1.0), scale, 1.0)
