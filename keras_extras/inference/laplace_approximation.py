"""LaplaceApproximation: a normal posterior around the weights of a trained model."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_extras._core.checks import check_choice, check_integer, check_number
from keras_extras._core.data import check_numbers
from keras_extras._core.flat_vectors import split_entries
from keras_extras._core.path_patterns import by_pattern
from keras_extras._core.probability import require_probability
from keras_extras.inference.curvature_of_data import curvature_of_data
from keras_extras.inference.data_batches import data_batches
from keras_extras.inference.linearized_network import LinearizedNetwork
from keras_extras.inference.predict_distribution import known_seed, numpy_generator
from keras_extras.inference.prior_scale import (
    most_likely_scale,
    negative_log_likelihood,
    scale_of_least_loss,
    validation_batches,
)
from keras_extras.inference.weight_function import WeightFunction
from keras_extras.inference.weight_subsets import weight_subset

# Beyond, the matrix and its factors take more than 2.4 GB.
_MOST_WEIGHTS = 10_000


class LaplaceApproximation:
    """A normal approximation of the posterior, made after training at the weights found there.

    ```
    p(w | D) = N(w*, (H / T + P)^-1),  H = sum over rows of J^T F J
    ```

    with `w*` the trained weights, `P` the precision of the prior, `T` the temperature, `J` the
    derivatives by the weights of what the last layer makes a distribution of, and `F` the Fisher
    information of that distribution about it: the generalized Gauss-Newton matrix. It is exact for
    a linear model with normal noise. Predictions are those of the network made linear in its
    weights at `w*`, the model for which `H` is the curvature.

    The weights should be at the mode for the prior: train with a mean loss, to which a prior of
    standard deviation `s` contributes `keras.regularizers.L2(1 / (2 n s^2))` for `n` rows.
    Distributions that TFP knows no closed KL divergence of, such as mixtures, have in place of `F`
    the positive part of the curvature of `-log p(y)` at the targets.

    With `hessian_structure="kron"` weights of different layers are independent, and the block of a
    layer `z = a W + b` is a Kronecker product, which its eigenvectors invert:

    ```
    H = A x B / m,  A = sum of a a^T,  B = sum of G^T F G
    ```

    with sums over the `m` pairs of a row and a position of it, `G` the derivatives by `z` there,
    and 1 among the entries of `a` for the bias. It is exact where all rows have the same
    `G^T F G`, as in a linear model with normal noise, and for a single row, of one position.
    Positions, of which convolutions and layers of sequences have many, count as rows of their own
    (KFAC-expand).

    References:
        MacKay (1992), "A practical Bayesian framework for backpropagation networks"; Immer, Korzepa
        and Bauer (2021), "Improving predictions of Bayesian neural nets via local linearization",
        [arXiv:2008.08400](https://arxiv.org/abs/2008.08400); Daxberger et al. (2021), "Laplace
        redux", [arXiv:2106.14806](https://arxiv.org/abs/2106.14806); Ritter, Botev and Barber
        (2018), "A scalable Laplace approximation for neural networks"; Immer et al. (2021),
        "Scalable marginal likelihood estimation for model selection in deep learning",
        [arXiv:2104.04975](https://arxiv.org/abs/2104.04975); Eschenhagen et al. (2023),
        "Kronecker-factored approximate curvature for modern neural network architectures",
        [arXiv:2311.00636](https://arxiv.org/abs/2311.00636).

    Args:
        model: Trained Keras model with one output, in which nothing is random in prediction. Its
            weights now are the mode; training it further changes nothing here.
        x: Inputs of the training data, an array of shape `(n, ...)` or a structure of arrays; or a
            `tf.data.Dataset` or `keras.utils.PyDataset` of batches `(x, y)` or
            `(x, y, sample_weight)`, which is read once, batch by batch.
        y: Targets, an array with `n` rows; `None` for a dataset. Defaults to `None`.
        prior_stddev: Float, the standard deviation of the weights' normal prior; or a dict from
            patterns of `variable.path`, matched as by `fnmatch` with the path or its end, to
            floats. Defaults to `1.0`.
        subset_of_weights: Which weights are uncertain. `"all"`: all trainable weights.
            `"last_layer"`: those of the last layer that has any. A pattern of `variable.path`,
            matched as by `fnmatch` with the path or its end, or a list of patterns: the weights
            that match. The other weights are held fixed. Defaults to `"all"`.
        hessian_structure: Which entries of `H` count. `"full"`: all, for up to 10,000 weights.
            `"kron"`: Kronecker products for `Dense`, `Conv1D`, `Conv2D` and `EinsumDense` layers,
            and the diagonal for all other weights, such as those of recurrent and normalization
            layers. `"diag"`: the diagonal, so that weights are independent, and narrower than in
            `"full"` where these are correlated. Defaults to `"full"`.
        likelihood: Function from the outputs of the model to a `tfd.Distribution` of targets;
            `None` for a model whose last layer is one of distributions. Defaults to `None`.
        batch_size: Integer, rows to compute at once at most; fewer where these would take more
            than some hundred megabytes. Defaults to `256`.
        prior_mean: Float, or array that is broadcast to the shape of each weight, the mean of the
            prior; or a dict from patterns to any of these. It plays a part in the marginal
            likelihood only. Defaults to `0.0`.
        temperature: Float, what the logarithm of the likelihood is divided by: below 1 the
            posterior is narrower, above it is wider. Defaults to `1.0`.
        sample_weight: Array of shape `(n,)`, how often each row counts; `None` for once, and for a
            dataset. Defaults to `None`.

    Attributes:
        prior_stddev: The standard deviation of the prior, a float or a dict. A float can be set,
            also to 0, where predictions are those of the network alone.
        mode: Arrays, the weights that are uncertain.
        diagonal_weights: List of the paths of weights that are independent of all others.

    Raises:
        TypeError: If `x` is an iterator, or the batches of a dataset have no targets.
        ValueError: If the model has no likelihood, its output is random or has no derivative by a
            weight, a pattern matches no weight, targets do not fit, a dataset is empty, endless or
            ends early, the curvature is not finite, or there are too many weights for
            `hessian_structure="full"`.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import inference, layers

    model = keras.Sequential([
        keras.Input((1,)),
        keras.layers.Dense(16, activation="tanh"),
        keras.layers.Dense(2),
        layers.IndependentNormal(1),
    ])
    model.compile("adam", loss=lambda y, rv_y: -rv_y.log_prob(y))
    x = np.linspace(-1.0, 1.0, 64)[:, None]
    model.fit(x, 2.0 * x, epochs=5, verbose=0)
    laplace = inference.LaplaceApproximation(model, x, 2.0 * x)
    held_out = np.linspace(-0.9, 0.9, 16)[:, None]
    laplace.optimize_prior_stddev(validation_data=(held_out, 2.0 * held_out))
    laplace.predict_distribution(x).epistemic_variance()  # of each row
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: Any = None,
        prior_stddev: float | Mapping[str, float] = 1.0,
        subset_of_weights: str | Sequence[str] = "all",
        hessian_structure: str = "full",
        likelihood: Callable | None = None,
        batch_size: int = 256,
        prior_mean: Any = 0.0,
        temperature: float = 1.0,
        sample_weight: Any = None,
    ):
        require_probability()
        check_choice("hessian_structure", hessian_structure, ("full", "kron", "diag"))
        temperature = check_number("temperature", temperature, above=0.0)
        self.subset_of_weights = subset_of_weights
        self.hessian_structure = hessian_structure
        self.model = model
        batch_size = check_integer("batch_size", batch_size)
        batches = data_batches(x, y, sample_weight)
        first = next(batches)
        function = WeightFunction(model, first[0], likelihood)
        function.check_not_random(first[0])
        chosen = weight_subset(subset_of_weights, function.variables, model)
        variables = [function.variables[number] for number in chosen]
        self._weights = [np.asarray(variable) for variable in function.variables]
        self.mode = [self._weights[number] for number in chosen]
        self._shapes = [value.shape for value in self.mode]
        self._set_prior(prior_stddev, prior_mean, variables)
        if hessian_structure == "full":
            _check_size(self._size, subset_of_weights == "all")
        self._network = LinearizedNetwork.of(function, chosen)
        self._network.check_differentiable(self._weights, first[0])
        self._curvature, self._log_likelihood = curvature_of_data(
            function,
            self._weights,
            chosen,
            itertools.chain([first], batches),
            batch_size,
            hessian_structure,
            1.0 / np.sqrt(self._relative),
            temperature,
        )
        independent = split_entries(self._curvature.is_independent, self._shapes)
        self.diagonal_weights = [v.path for v, part in zip(variables, independent) if part.all()]

    def __repr__(self):
        return (
            f"<LaplaceApproximation hessian_structure={self.hessian_structure!r}, "
            f"subset_of_weights={self.subset_of_weights!r}, {self._size} weights, diagonal: "
            f"{self.diagonal_weights}>"
        )

    def _set_prior(self, stddev, mean, variables):
        """Splits standard deviations into those of a dict, as relative precisions, and a factor."""
        is_one = not isinstance(stddev, Mapping)
        stddevs = by_pattern("prior_stddev", stddev, variables)
        stddevs = [check_number("prior_stddev", value, above=0.0) for value in stddevs]
        self._patterns = None if is_one else dict(stddev)
        self._scale = stddevs[0] if is_one else 1.0
        sizes = [value.size for value in self.mode]
        self._relative = np.repeat([1.0 if is_one else value**-2 for value in stddevs], sizes)
        means = by_pattern("prior_mean", mean, variables)
        for part in means:
            check_numbers("prior_mean", part)
        moves = [value - np.broadcast_to(m, value.shape) for value, m in zip(self.mode, means)]
        move = np.concatenate([np.ravel(part) for part in moves]).astype("float64")
        self._distance = float(np.sum(self._relative * np.square(move)))

    @property
    def prior_stddev(self) -> float | dict[str, float]:
        """The standard deviation of the prior: one number, or that of each pattern."""
        if self._patterns is None:
            return self._scale
        return {pattern: self._scale * value for pattern, value in self._patterns.items()}

    @prior_stddev.setter
    def prior_stddev(self, value: float) -> None:
        if self._patterns is not None:
            raise TypeError(
                "`prior_stddev` of several weights is given when the approximation is made. "
                f"Received: {value!r}"
            )
        self._scale = check_number("prior_stddev", value, at_least=0.0)

    @property
    def _precision(self):
        return self._scale**-2 if self._scale else np.inf

    @property
    def _size(self):
        return sum(value.size for value in self.mode)

    @property
    def _matrix(self):
        return self._curvature.matrix

    @property
    def _eigenvalues(self):
        return self._curvature.eigenvalues

    def log_marginal_likelihood(self, prior_stddev: float | None = None) -> float:
        """Returns the approximate logarithm of the evidence, p(y | x).

        ```
        1/T log p(D | w*) + log p(w*) - 1/2 log det((H / T + P) / (2 pi))
        ```

        Args:
            prior_stddev: Float; of a dict of standard deviations, the number by which all are
                multiplied; `None` for those of the approximation. Defaults to `None`.

        Raises:
            ValueError: If `prior_stddev` is not positive.
        """
        if prior_stddev is None:
            precision = self._precision
        else:
            precision = check_number("prior_stddev", prior_stddev, above=0.0) ** -2
        if np.isinf(precision):
            return -np.inf if self._distance else self._log_likelihood
        log_prior = 0.5 * self._size * np.log(precision) - 0.5 * precision * self._distance
        log_determinant = np.sum(np.log(self._eigenvalues + precision))
        return float(self._log_likelihood + log_prior - 0.5 * log_determinant)

    def optimize_prior_stddev(
        self,
        method: str | None = None,
        validation_data: Any = None,
        num_samples: int = 100,
        batch_size: int = 256,
        seed: int | None = None,
    ) -> float:
        """Sets the prior's standard deviation to the best one; the weights stay.

        With `"marglik"` it is that of the greatest marginal likelihood, between 0.001 and 1000. It
        needs no other rows, but nothing then makes sure that predictions are better than those of
        the network alone: of classifiers that fit their training rows they are often worse. With
        `"gridsearch"` it is that of the least negative log-likelihood of `validation_data`, among
        0 and values between 0.001 and 10. At 0 predictions are those of the network alone, so that
        those of the validation rows are never worse. The standard deviations of a dict are all
        multiplied by one number.

        Args:
            method: `"marglik"` or `"gridsearch"`, as of laplace-torch; `None` for the latter where
                there are `validation_data`. Defaults to `None`.
            validation_data: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or a dataset of
                such batches, as of `keras.Model.fit`: rows that the network was not trained with.
                Defaults to `None`.
            num_samples: Integer, the number of draws of the weights with `"gridsearch"`. Defaults
                to `100`.
            batch_size: Integer, rows to compute at once. Defaults to `256`.
            seed: Integer seed of the draws; `None` follows `keras.utils.set_random_seed`. Defaults
                to `None`.

        Returns:
            The standard deviation, or the number by which those of the dict were multiplied.

        Raises:
            ValueError: If `validation_data` are missing, given with `"marglik"`, or do not fit.
        """
        if method is None:
            method = "marglik" if validation_data is None else "gridsearch"
        if check_choice("method", method, ("marglik", "gridsearch")) == "marglik":
            if validation_data is not None:
                raise ValueError(
                    "`validation_data` must be `None` with method='marglik', which takes the rows "
                    "of the approximation; use method='gridsearch' for held-out rows"
                )
            self._scale = most_likely_scale(self.log_marginal_likelihood)
            return self._scale
        num_samples = check_integer("num_samples", num_samples)
        batch_size = check_integer("batch_size", batch_size)
        seed = known_seed(seed)
        batches = validation_batches(validation_data, self._network.function, batch_size)
        given = self._scale

        def loss(scale):
            self._scale = scale
            offsets = self.sample_offsets(num_samples, numpy_generator(seed))
            return negative_log_likelihood(
                self._network, self._weights, offsets, batches, batch_size
            )

        try:
            given = scale_of_least_loss(loss)
        finally:
            self._scale = given
        return self._scale

    def stddev(self) -> list[np.ndarray]:
        """Returns the posterior standard deviations of the weights, shaped as `mode`."""
        if self._scale == 0.0:
            return [np.zeros(shape) for shape in self._shapes]
        variances = self._curvature.variances(self._precision)
        return split_entries(np.sqrt(variances / self._relative), self._shapes)

    def sample_offsets(self, num_samples: int, generator: np.random.Generator) -> list[np.ndarray]:
        """Returns draws of `w - w*`, arrays of shape `(num_samples, *shape)`.

        Args:
            num_samples: Integer, the number of draws.
            generator: A NumPy generator.
        """
        if self._scale == 0.0:
            kind = keras.config.floatx()
            return [np.zeros((num_samples, *shape), kind) for shape in self._shapes]
        noise = generator.normal(size=(num_samples, self._size))
        offsets = self._curvature.inverse_root(noise.T, self._precision).T
        offsets = offsets / np.sqrt(self._relative)
        return split_entries(offsets.astype(keras.config.floatx()), self._shapes)

    def predict_distribution(
        self, x: Any, num_samples: int = 100, batch_size: int = 256, seed: int | None = None
    ) -> Any:
        """Returns the posterior predictive distribution of the linearized network.

        Args:
            x: Inputs, an array of shape `(n, ...)` or a structure of arrays.
            num_samples: Integer, the number of draws of the weights. Defaults to `100`.
            batch_size: Integer, rows to compute at once. Defaults to `256`.
            seed: Integer seed of the draws; `None` follows `keras.utils.set_random_seed`. Defaults
                to `None`.

        Returns:
            A `keras_extras.inference.PosteriorPredictive`.
        """
        from keras_extras.inference.conformal_prediction import remember_predictor
        from keras_extras.inference.posterior_predictive import predictive_of

        num_samples = check_integer("num_samples", num_samples)
        batch_size = check_integer("batch_size", batch_size)
        seed = known_seed(seed)
        offsets = self.sample_offsets(num_samples, numpy_generator(seed))
        parameters = self._network.parameters(self._weights, offsets, x, batch_size)
        predict = partial(
            self.predict_distribution, num_samples=num_samples, batch_size=batch_size, seed=seed
        )
        prediction = predictive_of(self._network.function, parameters)
        return remember_predictor(prediction, predict, x)


def _check_size(size, is_all):
    if size > _MOST_WEIGHTS:
        raise ValueError(
            f"`hessian_structure='full'` takes at most {_MOST_WEIGHTS} weights. Use "
            "hessian_structure='kron' or hessian_structure='diag'"
            + (" or subset_of_weights='last_layer'" if is_all else "")
            + f". Received: {size} weights, whose matrix takes {8e-9 * size**2:,.1f} GB"
        )
