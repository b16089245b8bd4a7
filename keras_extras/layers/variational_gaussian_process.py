"""VariationalGaussianProcess: a distribution over functions of the inputs."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_integer, check_number
from keras_extras._core.functions import optional_function, serialize_function
from keras_extras._core.probability import tfb, tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.distribution_layer import DistributionLayer
from keras_extras.layers.heads.head import event_dims


@serializable
class VariationalGaussianProcess(DistributionLayer):
    """A Gaussian process of the inputs, learned through a few inducing points.

    The values of the process at `num_inducing_points` places have a normal distribution whose
    mean and scale are weights, as are the places, the noise and the kernel's parameters. Between
    the places the process is what it must be, given the values there. The output is the joint
    distribution of the values at all rows of the batch.

    It is trained by its variational loss, minus the evidence lower bound of a batch, in which
    the divergence of the inducing values from the prior counts by the share of the batch in the
    data:

    ```
    loss = lambda y, rv_y: rv_y.variational_loss(y, kl_weight=batch_size / num_rows)
    ```

    References:
        Titsias (2009), "Variational learning of inducing variables in sparse Gaussian processes";
        Hensman, Fusi and Lawrence (2013), "Gaussian processes for big data",
        [arXiv:1309.6835](https://arxiv.org/abs/1309.6835).

    Args:
        num_inducing_points: Integer, the number of places.
        kernel_provider: Layer with a property `kernel`, a kernel of `tfp.math.psd_kernels` that
            is made of the layer's weights, such as `ExponentiatedQuadraticKernel`.
        event_shape: Integers, how many processes there are. Defaults to `(1,)`.
        inducing_index_points_initializer: Initializer of the places, of shape
            `event_shape + (num_inducing_points, features)`. Best spread over the data, as by
            `keras.initializers.Constant` of an array of places; `None` means
            `"glorot_uniform"`. Defaults to `None`.
        unconstrained_observation_noise_variance_initializer: Initializer of the noise's raw
            variance, which softplus makes positive; `None` for no noise. Defaults to
            `"default"`, a constant of -10.
        variational_inducing_observations_scale_initializer: Initializer of the scale of the values
            at the places, of shape `event_shape + (num_inducing_points, num_inducing_points)`;
            `None` means 1e-5 on the diagonal. Defaults to `None`.
        mean_fn: Function of the inputs, the mean of the process; `None` means a trainable
            constant. Defaults to `None`.
        jitter: Float, what is added to the diagonal of covariance matrices. Defaults to `1e-06`.
        convert_to_tensor_fn: What stands for the distribution where a tensor is wanted, such as
            `"sample"` or `"mean"`, as in `DistributionLambda`. Defaults to `"sample"`.
        **kwargs: `seed`, `dtype` (by default that of the kernel's weights) and others of
            `keras.layers.Layer`.

    Input shape:
        `(n, features)`.

    Output shape:
        `(n, *event_shape)`.

    Raises:
        TypeError: If `kernel_provider` is no layer with a property `kernel`.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import layers

    x = np.linspace(-1.0, 1.0, 64)[:, None]
    model = keras.Sequential([
        keras.Input((1,)),
        layers.VariationalGaussianProcess(8, layers.ExponentiatedQuadraticKernel()),
    ])
    loss = lambda y, rv_y: rv_y.variational_loss(y, kl_weight=32 / 64)
    model.compile("adam", loss)
    model.fit(x, np.sin(3 * x), batch_size=32, verbose=0)
    model(x).stddev()  # of each row
    ```
    """

    def __init__(
        self,
        num_inducing_points: int,
        kernel_provider: keras.layers.Layer,
        event_shape: int | Sequence[int] = (1,),
        inducing_index_points_initializer: Any = None,
        unconstrained_observation_noise_variance_initializer: Any = "default",
        variational_inducing_observations_scale_initializer: Any = None,
        mean_fn: Callable[[Any], Any] | None = None,
        jitter: float = 1e-6,
        convert_to_tensor_fn: str | Callable[[Any], Any] = "sample",
        **kwargs: Any,
    ):
        if not isinstance(kernel_provider, keras.layers.Layer) or not hasattr(
            kernel_provider, "kernel"
        ):
            raise TypeError(
                "`kernel_provider` must be a layer with a property `kernel`, such as "
                "`keras_extras.layers.ExponentiatedQuadraticKernel()`. "
                f"Received: kernel_provider={kernel_provider!r}"
            )
        super().__init__(
            convert_to_tensor_fn, **{"dtype": kernel_provider.variable_dtype, **kwargs}
        )
        self.num_inducing_points = check_integer("num_inducing_points", num_inducing_points)
        self.kernel_provider = kernel_provider
        self.event_shape = event_dims(event_shape)
        self.inducing_index_points_initializer = keras.initializers.get(
            inducing_index_points_initializer
        )
        noise = unconstrained_observation_noise_variance_initializer
        if isinstance(noise, str) and noise == "default":
            noise = keras.initializers.Constant(-10.0)
        self.unconstrained_observation_noise_variance_initializer = keras.initializers.get(noise)
        self.variational_inducing_observations_scale_initializer = keras.initializers.get(
            variational_inducing_observations_scale_initializer
        )
        self.mean_fn = optional_function("mean_fn", mean_fn)
        self.jitter = check_number("jitter", jitter, at_least=0.0)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not self.kernel_provider.built:
            self.kernel_provider.build(input_shape)
        features = input_shape[-self.kernel_provider.kernel.feature_ndims :]
        values = (*self.event_shape, self.num_inducing_points)
        if self.mean_fn is None:
            self.mean = self.add_weight(name="mean", shape=(1,), initializer="zeros")
        self.unconstrained_observation_noise_variance = None
        if self.unconstrained_observation_noise_variance_initializer is not None:
            self.unconstrained_observation_noise_variance = self.add_weight(
                name="observation_noise_variance",
                shape=(),
                initializer=self.unconstrained_observation_noise_variance_initializer,
            )
        self.inducing_index_points = self.add_weight(
            name="inducing_index_points",
            shape=(*values, *features),
            initializer=self.inducing_index_points_initializer,
        )
        self.variational_inducing_observations_loc = self.add_weight(
            name="variational_inducing_observations_loc", shape=values, initializer="zeros"
        )
        self.variational_inducing_observations_scale = self.add_weight(
            name="variational_inducing_observations_scale",
            shape=(*values, self.num_inducing_points),
            initializer=self.variational_inducing_observations_scale_initializer or _small_diagonal,
        )

    def make_distribution(self, inputs: Any) -> Any:
        noise = 0.0
        if self.unconstrained_observation_noise_variance is not None:
            raw = ops.convert_to_tensor(self.unconstrained_observation_noise_variance)
            noise = ops.softplus(raw)
        mean_fn = self.mean_fn or _constant_fn(ops.convert_to_tensor(self.mean))
        return self.new(
            inputs,
            self.kernel_provider,
            self.event_shape,
            ops.convert_to_tensor(self.inducing_index_points),
            mean_fn,
            ops.convert_to_tensor(self.variational_inducing_observations_loc),
            ops.convert_to_tensor(self.variational_inducing_observations_scale),
            noise,
            jitter=self.jitter,
        )

    @staticmethod
    def new(
        x: Any,
        kernel_provider: Any,
        event_shape: Sequence[int],
        inducing_index_points: Any,
        mean_fn: Callable[[Any], Any],
        variational_inducing_observations_loc: Any,
        variational_inducing_observations_scale: Any,
        observation_noise_variance: Any,
        jitter: float = 1e-6,
        name: str | None = None,
    ) -> Any:
        """Returns the distribution of the process at points.

        Args:
            x: Tensor of shape `(n, features)`.
            kernel_provider: Object with a property `kernel`.
            event_shape: Not used; for code that was written for `tfp.layers`.
            inducing_index_points: Tensor of shape `event_shape + (places, features)`.
            mean_fn: Function of the inputs, the mean of the process.
            variational_inducing_observations_loc: Tensor of shape `event_shape + (places,)`.
            variational_inducing_observations_scale: Tensor of shape
                `event_shape + (places, places)`.
            observation_noise_variance: Scalar tensor.
            jitter: Float, what is added to the diagonal of covariance matrices. Defaults to
                `1e-06`.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.

        Returns:
            A distribution of event shape `(n, *event_shape)` that has `variational_loss` and
            `surrogate_posterior_kl_divergence_prior`.
        """
        process = tfd.VariationalGaussianProcess(
            kernel=kernel_provider.kernel,
            index_points=x,
            inducing_index_points=inducing_index_points,
            variational_inducing_observations_loc=variational_inducing_observations_loc,
            variational_inducing_observations_scale=variational_inducing_observations_scale,
            mean_fn=mean_fn,
            observation_noise_variance=observation_noise_variance,
            jitter=jitter,
        )
        # From one row for each process to one row for each point.
        transpose = tfb.Transpose(rightmost_transposed_ndims=2)
        return _process_at_points()(tfd.Independent(process, 1), transpose)

    def get_config(self) -> dict[str, Any]:
        names = (
            "inducing_index_points_initializer",
            "unconstrained_observation_noise_variance_initializer",
            "variational_inducing_observations_scale_initializer",
        )
        return {
            **super().get_config(),
            "num_inducing_points": self.num_inducing_points,
            "kernel_provider": keras.saving.serialize_keras_object(self.kernel_provider),
            "event_shape": self.event_shape,
            **{name: keras.initializers.serialize(getattr(self, name)) for name in names},
            "mean_fn": serialize_function(self.mean_fn, self.name),
            "jitter": self.jitter,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "VariationalGaussianProcess":
        provider = keras.saving.deserialize_keras_object(config["kernel_provider"])
        return cls(**{**config, "kernel_provider": provider})


@functools.cache
def _process_at_points() -> Any:
    base: Any = tfd.TransformedDistribution

    class ProcessAtPoints(base):
        """Several processes, `distribution.distribution`, with one row for each point."""

        def variational_loss(self, y: Any, kl_weight: Any = 1.0) -> Any:
            """Returns minus the evidence lower bound of targets.

            Args:
                y: Tensor of the shape of a draw.
                kl_weight: Number, by which the divergence of the inducing values counts.
            """
            process = self.distribution.distribution
            return process.variational_loss(self.bijector.forward(y), kl_weight=kl_weight)

        def surrogate_posterior_kl_divergence_prior(self) -> Any:
            """Returns the divergence of the inducing values from their prior."""
            return self.distribution.distribution.surrogate_posterior_kl_divergence_prior()

    return ProcessAtPoints


def _constant_fn(value):
    """A function of the inputs; on JAX one whose value passes transformations with it."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.tree_util.Partial(_constant, value)
    return functools.partial(_constant, value)


def _constant(value, inputs):
    return value


def _small_diagonal(shape, dtype=None):
    return ops.broadcast_to(1e-5 * ops.eye(shape[-1], dtype=dtype), shape)
