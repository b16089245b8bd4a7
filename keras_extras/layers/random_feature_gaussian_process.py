"""RandomFeatureGaussianProcess: an output layer that knows how far inputs are from the data."""

import math
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import (
    check_choice,
    check_inputs,
    check_integer,
    check_number,
    check_seed,
)
from keras_extras._core.drawing import is_drawing
from keras_extras._core.registration import serializable
from keras_extras.layers.epoch_covariance import EpochCovariance

_LIKELIHOODS = ("categorical", "binary_logistic", "gaussian")
_MEAN_FIELD_FACTOR = math.pi / 8.0


@serializable
class RandomFeatureGaussianProcess(EpochCovariance, keras.layers.Layer):
    """A Gaussian process of its inputs, by random features and a Laplace approximation.

    ```
    f(x) = phi(x)^T beta,  phi(x) = sqrt(2 / D) cos(W x + b),  beta ~ N(0, s^2 I)
    posterior of beta: N(kernel, (I / s^2 + sum over rows of w_i phi_i phi_i^T)^-1)
    ```

    with fixed random `W` and `b`, so that `phi(x)^T phi(y)` approximates the kernel
    `exp(-|x - y|^2 / (2 l^2))`, and the curvature `w_i` of the likelihood: `p (1 - p)` of the most
    probable class, or one over the variance of the noise. Far from all training rows the variance
    is that of the prior. As the last layer of a network whose hidden layers preserve distances it
    makes a spectral-normalized neural Gaussian process (SNGP), which recognizes inputs unlike the
    training data at the cost of one network: residual blocks `x + Dense(...)(x)` whose kernels
    have the constraint `keras_extras.constraints.SpectralNorm`.

    In training the outputs are `phi^T kernel`. In prediction these logits are divided by
    `sqrt(1 + pi / 8 variance)`, so that their softmax or sigmoid approximates its mean over the
    posterior; with `likelihood="gaussian"` outputs are the mean. Follow it with
    `keras.layers.Softmax` or a layer of distributions, or use a loss with `from_logits=True`.
    `keras_extras.predict_distribution` draws `beta` from the posterior.

    Training calls add their rows to a sum. `fit` empties it at the start of each epoch, and
    computes the covariance from it at the end, before validation; without validation and callbacks
    only at the end of the last epoch. Each batch counts with the features and the curvature that it
    had in training, so the covariance is exact where these do not change, as with
    `likelihood="gaussian"` behind fixed layers. Each row counts once: sample and class weights do
    not reach layers, so repeat rows instead.

    Without a complete epoch, or after one that was interrupted, there is no covariance: `evaluate`
    and `predict` of classes and `predict_distribution` raise an error, and other calls return NaN.
    In a training loop of your own call `begin_epoch()` before an epoch and `end_epoch()` after it.

    The trained kernel is the posterior's mode with the right regularizer: of a mean of the negative
    log-likelihood over `n` rows, such as a cross-entropy, `keras.regularizers.L2(1 / (2 n s^2))`,
    and of a mean squared error that times twice the variance of the noise.

    References:
        Liu et al. (2020), "Simple and principled uncertainty estimation with deterministic deep
        learning via distance awareness", [arXiv:2006.10108](https://arxiv.org/abs/2006.10108),
        equations 7 to 10; Rahimi and Recht (2007), "Random features for large-scale kernel
        machines".

    Args:
        units: Integer, the number of outputs, which share one covariance.
        num_features: Integer, the number of random features. Defaults to `1024`.
        likelihood: `"categorical"`; `"binary_logistic"`, for one output; or `"gaussian"`. Defaults
            to `"categorical"`.
        length_scale: Float, the length scale `l` of the kernel; `None` for the square root of the
            number of inputs, which suits inputs of variance 1. Defaults to `None`.
        prior_stddev: Float, the standard deviation `s` of the prior. Defaults to `1.0`.
        noise_stddev: Float, the standard deviation of the noise with `likelihood="gaussian"`.
            Defaults to `1.0`.
        momentum: Float; -1 for exact sums over an epoch. In [0, 1) the moving average over batches
            of the mean curvature of a row, times the number of training rows, which `fit` learns;
            epochs do not reset it. Defaults to `-1.0`.
        kernel_initializer: Initializer of the mean of `beta`. Defaults to `"zeros"`.
        kernel_regularizer: Regularizer of the mean of `beta`. Defaults to `None`.
        seed: Integer seed of random features and draws. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name`. Computations are at least in `float32`,
            and outputs in the compute dtype.

    Weights:
        `kernel` of shape `(num_features, units)`, which is trained; the fixed `random_weights` and
        `random_phases`; and `precision`, the sum over rows, `covariance_root`, a matrix whose
        product with its transpose is the covariance, and the steps that each is of.

    Input shape:
        `(n, d)`.

    Output shape:
        `(n, units)`.

    Raises:
        ValueError: If an argument is out of range, or the covariance is needed and not complete.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras
    from keras_extras import layers

    x = np.random.default_rng(0).normal(size=(64, 2))
    model = keras.Sequential([
        keras.Input((2,)),
        layers.RandomFeatureGaussianProcess(2, num_features=128),
        keras.layers.Softmax(),
    ])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, x[:, 0] > 0.0, epochs=5, verbose=0)
    rows = np.array([[1.0, 0.0], [9.0, 9.0]])
    prediction = keras_extras.predict_distribution(model, rows)
    prediction.epistemic_entropy()  # greater for the second row
    ```
    """

    def __init__(
        self,
        units: int,
        num_features: int = 1024,
        likelihood: str = "categorical",
        length_scale: float | None = None,
        prior_stddev: float = 1.0,
        noise_stddev: float = 1.0,
        momentum: float = -1.0,
        kernel_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.units = check_integer("units", units)
        self.num_features = check_integer("num_features", num_features)
        self.likelihood = check_choice("likelihood", likelihood, _LIKELIHOODS)
        _check_units(self.units, likelihood)
        self.length_scale = length_scale
        if length_scale is not None:
            self.length_scale = check_number("length_scale", length_scale, above=0.0)
        self.prior_stddev = check_number("prior_stddev", prior_stddev, above=0.0)
        self.noise_stddev = check_number("noise_stddev", noise_stddev, above=0.0)
        self.momentum = check_number("momentum", momentum)
        if not (self.momentum == -1.0 or 0.0 <= self.momentum < 1.0):
            raise ValueError(
                f"`momentum` must be -1 or lie in [0, 1). Received: momentum={momentum!r}"
            )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.seed = check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.input_spec = keras.layers.InputSpec(ndim=2)
        self._accumulate_over_epochs()

    @property
    def predicts_with_sums(self) -> bool:
        """Whether outputs depend on the covariance."""
        return self.likelihood != "gaussian"

    def build(self, input_shape: tuple[Any, ...]) -> None:
        inputs = input_shape[-1]
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: inputs})
        scale = math.sqrt(inputs) if self.length_scale is None else self.length_scale
        normal = keras.initializers.RandomNormal(stddev=1.0 / scale, seed=self.seed_generator)
        uniform = keras.initializers.RandomUniform(0.0, 2.0 * math.pi, seed=self.seed_generator)
        for name, shape, drawn in (
            ("random_weights", (inputs, self.num_features), normal),
            ("random_phases", (self.num_features,), uniform),
        ):
            setattr(self, name, self._add(name, shape, _in_single_precision(drawn)))
        self.kernel = self._add(
            "kernel",
            (self.num_features, self.units),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            trainable=True,
        )
        self._build_covariance(self._add, self.num_features)

    def _add(self, name, shape, initializer="zeros", dtype=None, trainable=False, **arguments):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            dtype=dtype or keras.backend.result_type(self.variable_dtype, "float32"),
            autocast=False,
            trainable=trainable,
            **arguments,
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        check_inputs(self.name, inputs)
        features = self._features(inputs)
        outputs = ops.matmul(features, self.kernel)
        if training:
            self._add_to_precision(ops.stop_gradient(features * self._root_of_curvature(outputs)))
        elif is_drawing():
            noise = keras.random.normal(
                (self.num_features, self.units), dtype=outputs.dtype, seed=self.seed_generator
            )
            outputs += ops.matmul(ops.matmul(features, self.covariance_root), noise)
        elif self.predicts_with_sums:
            variance = self._variance(features)[:, None]
            outputs = outputs / ops.sqrt(1.0 + _MEAN_FIELD_FACTOR * variance)
        return ops.cast(outputs, self.compute_dtype)

    def mean_and_variance(self, inputs: Any) -> tuple[Any, Any]:
        """Returns the mean and variance of `f`, without noise.

        Args:
            inputs: Array of shape `(n, d)`, what the layer is given in the model.

        Returns:
            Two tensors, the means of shape `(n, units)`, the variances, which all units share, of
            shape `(n,)`.

        Raises:
            ValueError: If the covariance is not complete.
        """
        self.check_current()
        features = self._features(ops.convert_to_tensor(inputs))
        return ops.matmul(features, self.kernel), self._variance(features)

    def _features(self, inputs):
        inputs = ops.cast(inputs, self.kernel.dtype)
        angles = ops.add(ops.matmul(inputs, self.random_weights), self.random_phases)
        return math.sqrt(2.0 / self.num_features) * ops.cos(angles)

    def _variance(self, features):
        variance = ops.sum(ops.square(ops.matmul(features, self.covariance_root)), axis=-1)
        return ops.where(self._is_current(), variance, float("nan"))

    def _root_of_curvature(self, outputs):
        """The curvature is minus the second derivative of a row's log-likelihood by its output."""
        if self.likelihood == "gaussian":
            return 1.0 / self.noise_stddev
        if self.likelihood == "binary_logistic":
            return ops.sqrt(ops.sigmoid(outputs) * ops.sigmoid(-outputs))
        most_probable = ops.max(ops.softmax(outputs), axis=-1, keepdims=True)
        return ops.sqrt(most_probable * (1.0 - most_probable))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        names = ("units", "num_features", "likelihood", "length_scale", "prior_stddev")
        more = ("noise_stddev", "momentum", "seed")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in (*names, *more)},
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


def _check_units(units, likelihood):
    if likelihood == "binary_logistic" and units != 1:
        raise ValueError(
            "`units` must be 1 with likelihood='binary_logistic'. Use 'categorical' for several "
            f"classes. Received: units={units}"
        )


def _in_single_precision(initializer):
    """Draws the same numbers for every dtype."""

    def initialize(shape, dtype=None):
        return ops.cast(initializer(shape, dtype="float32"), dtype)

    return initialize
