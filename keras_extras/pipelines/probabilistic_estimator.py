"""The base of the probabilistic regressor and classifier: training by any method, and draws.

They subclass scikit-learn's, so this module is imported with the first of them.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import check_choice, check_integer, check_number
from keras_extras._core.optional import import_optional
from keras_extras._core.probability import require_probability
from keras_extras.inference.conformal_prediction import remember_predictor
from keras_extras.inference.conformal_predictor import ConformalPredictor
from keras_extras.inference.laplace_approximation import LaplaceApproximation
from keras_extras.inference.linearized_network import LinearizedNetwork
from keras_extras.inference.posterior_predictive import PosteriorPredictive, predictive_of
from keras_extras.inference.predict_distribution import draw_parameters
from keras_extras.inference.sample_posterior import sample_posterior
from keras_extras.pipelines.probabilistic_networks import (
    CHAINS,
    METHODS,
    RANDOM_METHODS,
    TRAINING,
    NetworkSpec,
    Rows,
    train,
    trainable_network,
)
from keras_extras.pipelines.table_rows import mean_and_scale
from keras_extras.pipelines.weight_draws import draw_dropout, draw_variational

sklearn_base: Any = import_optional("sklearn.base", "sklearn", "A probabilistic estimator")
sklearn_utils = import_optional("sklearn.utils", "sklearn", "A probabilistic estimator")
class_weights = import_optional(
    "sklearn.utils.class_weight", "sklearn", "A probabilistic estimator"
)
multiclass = import_optional("sklearn.utils.multiclass", "sklearn", "A probabilistic estimator")
validation = import_optional("sklearn.utils.validation", "sklearn", "A probabilistic estimator")

_BATCH = 512  # rows of a prediction computed at once
# Of Markov chains: transitions for each draw that is kept, and what limits a transition. The
# variance of the energy's error is that of microcanonical Langevin ensembles.
_THINNING = 4
_KERNELS = {"nuts": {"max_tree_depth": 6}, "mclmc": {"target_energy_variance": 0.1}}
# More covariances than this take longer than the training.
_MOST_WEIGHTS_OF_LAPLACE = 3000
_WITHOUT_WEIGHTS = ("laplace", "nuts")
_FEWEST_ROWS_TO_HOLD_OUT = 20
_NUM_FOLDS = 5
# Of more rows, some of one fold are enough.
_MOST_ROWS_OF_FOLDS = 10_000
_MOST_ROWS_HELD_OUT = 2000


class ProbabilisticEstimator(sklearn_base.BaseEstimator):
    """A perceptron with uncertain weights, behind the interface of scikit-learn.

    A child prepares the targets and says what the network predicts of them.
    """

    def _fit_network(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> None:
        """Trains networks on inputs, which are standardized here, and prepared targets.

        Each network leaves out the rows of one fold. These find when to stop, and how to calibrate
        the predictions, in which all networks take part: networks trained with other rows would be
        surer or less sure than those that are calibrated. Chains of `"mclmc"` are given all rows,
        and calibrated by leave-one-out cross-validation.
        """
        require_probability()
        self._check_parameters()
        self.x_mean_, self.x_scale_ = mean_and_scale(x, weights)
        rows = Rows(self._standardized(x), y.astype("float32"), weights.astype("float32"))
        self._seed = int(sklearn_utils.check_random_state(self.random_state).randint(2**31 - 1))
        self._num_outputs = y.shape[1]
        folds = _folds(y, sklearn_base.is_classifier(self), np.random.default_rng(self._seed))
        self._num_folds = int(max(folds.max() + 1, 1))
        rows, folds = self._repeated(rows, folds)
        order = np.argsort(folds, kind="stable")[np.sum(folds < 0) :]
        held_out = rows.take(order)
        with TRAINING:
            self._train(rows, folds)
            if len(order):
                parameters = self._of_folds(np.asarray(self._parameters(held_out.x)))
        if len(order):
            self._calibrate(rows, folds, held_out, folds[order], parameters)

    def _repeated(self, rows, folds):
        """Each row as often as its weight says, for methods whose likelihood has no weights."""
        if self.method not in _WITHOUT_WEIGHTS or np.all(rows.weights == 1.0):
            return rows, folds
        times = np.round(rows.weights).astype(int)
        if not np.array_equal(times, rows.weights):
            raise ValueError(
                f"`sample_weight` must be whole numbers with method={self.method!r}, how often "
                "each row counts. Use another method, such as 'ensemble', for other weights."
            )
        repeated = rows.take(np.repeat(np.arange(len(times)), times))
        ones = np.ones(times.sum(), "float32")
        return repeated._replace(weights=ones), np.repeat(folds, times)

    def _train(self, rows, folds):
        """Sets the weights, those of the first fold first."""
        spec = self._spec(rows.x.shape[1], self._num_outputs)
        trainable = trainable_network(spec)
        fold_of_member = np.repeat(np.arange(self._num_folds), spec.num_members // self._num_folds)
        self.weights_ = train(
            trainable,
            rows,
            folds[:, None] == fold_of_member,
            self.epochs,
            self.batch_size,
            self.learning_rate,
            self._seed,
            self.verbose,
        )
        if self.method == "mclmc":
            # Chains start at networks that leave out a fold, and draw given all rows.
            self.weights_ = self._sample(trainable, rows, self.weights_, sample_weight=rows.weights)
        if self.method not in _WITHOUT_WEIGHTS:
            return
        of_folds = []
        for fold in range(self._num_folds):
            trained_with = rows.take(folds != fold)
            weights = [values[fold_of_member == fold] for values in self.weights_]
            if self.method == "nuts":
                of_folds.append(self._sample(trainable, trained_with, weights))
            else:
                held_out = rows.take(folds == fold)
                offsets = self._offsets_of_laplace(trainable, trained_with, weights, held_out)
                of_folds.append(offsets)
        draws = [np.concatenate(parts) for parts in zip(*of_folds, strict=True)]
        if self.method == "nuts":
            self.weights_ = draws
        else:
            self._offsets = draws

    def _samples_per_fold(self):
        """How many draws of the weights are made in each fold."""
        return -(-self.num_samples // self._num_folds)

    def _sample(self, trainable, rows, weights, **arguments):
        num_chains = len(weights[0])
        draws_per_chain = -(-self.num_samples // len(self.weights_[0]))
        posterior = sample_posterior(
            trainable.network,
            rows.x,
            rows.y,
            prior=trainable.prior,
            kernel=self.method,
            initial=weights,
            num_chains=num_chains,
            num_burnin_steps=self.num_burnin_steps,
            num_results=draws_per_chain * _THINNING,
            seed=self._seed,
            verbose=self.verbose,
            **_KERNELS[self.method],
            **arguments,
        )
        thinned = [values[:, _THINNING - 1 :: _THINNING] for values in posterior.samples]
        return [values.reshape(-1, *values.shape[2:]) for values in thinned]

    def _offsets_of_laplace(self, trainable, rows, weights, held_out):
        for variable, values in zip(trainable.function.variables, weights, strict=True):
            variable.assign(values[0])
        size = sum(values[0].size for values in weights)
        laplace = LaplaceApproximation(
            trainable.network,
            rows.x,
            rows.y,
            prior_stddev=self.prior_stddev,
            hessian_structure="full" if size <= _MOST_WEIGHTS_OF_LAPLACE else "diag",
        )
        validation_data = (held_out.x, held_out.y) if len(held_out.x) else None
        laplace.optimize_prior_stddev(validation_data=validation_data, seed=self._seed)
        return laplace.sample_offsets(self._samples_per_fold(), np.random.default_rng(self._seed))

    def predict_distribution(self, X: Any) -> PosteriorPredictive:
        """Returns the posterior predictive distribution of all rows.

        Args:
            X: Array of shape `(n, features)`.

        Returns:
            A `keras_extras.inference.PosteriorPredictive` of batch shape `(n,)`.
        """
        prediction = self._in_units_of_targets(self._prediction(X))
        return remember_predictor(prediction, self, X)

    def conformalize(self, X: Any, y: Any, **kwargs: Any) -> ConformalPredictor:
        """Returns a predictor of intervals, or of sets of classes, that have a guarantee.

        Args:
            X: Array of shape `(n, features)`, held-out rows, which `fit` did not get.
            y: Array with their targets or labels.
            **kwargs: `score`, `randomized` and `seed`, as of
                `keras_extras.inference.ConformalPredictor`.

        Returns:
            A `keras_extras.inference.ConformalPredictor`. It holds this estimator, and is of no use
            after another `fit`.
        """
        validation.check_is_fitted(self)
        return ConformalPredictor(self, X, y, **kwargs)

    def _prediction(self, X):
        """The same in the units of the network."""
        validation.check_is_fitted(self)
        x = validation.validate_data(self, X, dtype="float64", reset=False)
        x = self._standardized(x)
        return self._calibrated(self._parameters(x), x)

    def _parameters(self, x):
        """The parameters of each draw's distributions, of shape `(draws, n, ...)`, by folds."""
        spec = self._spec(x.shape[1], self._num_outputs)
        trainable = trainable_network(spec)
        if self.method == "laplace":
            network = LinearizedNetwork.of(trainable.function, range(len(self.weights_)))
            offsets = zip(*map(self._of_folds, self._offsets), strict=True)
            modes = zip(*self.weights_, strict=True)
            parts = [
                network.parameters(list(mode), list(moves), x, _BATCH)
                for mode, moves in zip(modes, offsets, strict=True)
            ]
            return ops.concatenate(parts, axis=0)
        generator = np.random.default_rng(self._seed)
        weights = self.weights_
        if self.method in RANDOM_METHODS:
            weights = self._draws(trainable, generator)
            trainable = trainable_network(spec._replace(method="ensemble"))
        return draw_parameters(trainable.function, x, weights, len(weights[0]), _BATCH, generator)

    def _of_folds(self, values):
        return np.split(values, self._num_folds)

    def _draws(self, trainable, generator):
        """Draws of the weights of a plain network, for one whose layers are random."""
        of_folds = []
        for fold in range(self._num_folds):
            values = [values[fold] for values in self.weights_]
            if self.method == "mc_dropout":
                drawn = draw_dropout(values, self.dropout_rate, self._samples_per_fold(), generator)
            else:
                variables = trainable.function.variables
                drawn = draw_variational(
                    trainable.network, variables, values, self._samples_per_fold(), generator
                )
            of_folds.append(drawn)
        return [np.concatenate(parts) for parts in zip(*of_folds, strict=True)]

    def _predictive(self, parameters):
        trainable = trainable_network(self._spec(len(self.x_mean_), self._num_outputs))
        return predictive_of(trainable.function, parameters)

    def _standardized(self, x):
        return ((x - self.x_mean_) / self.x_scale_).astype("float32")

    def _spec(self, num_inputs, num_outputs):
        # Chains take long: there are as many as asked for in all folds together.
        chains = dict.fromkeys(CHAINS, -(-self.num_members // self._num_folds))
        members = {"ensemble": self.num_members, **chains}
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
            num_members=self._num_folds * members.get(self.method, 1),
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


def _folds(y, is_classifier, generator):
    """The fold that each row is held out of training in, or -1 for none."""
    folds = np.full(len(y), -1)
    order = generator.permutation(len(y))
    if len(y) > _MOST_ROWS_OF_FOLDS:
        folds[order[:_MOST_ROWS_HELD_OUT]] = 0
    elif len(y) >= _FEWEST_ROWS_TO_HOLD_OUT:
        if is_classifier:  # Each class is spread over the folds.
            order = order[np.argsort(np.argmax(y[order], axis=1), kind="stable")]
        folds[order] = np.arange(len(y)) % _NUM_FOLDS
    return folds
