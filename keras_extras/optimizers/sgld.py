"""SGLD: stochastic gradient Langevin dynamics, an optimizer that samples the posterior."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.backend import num_replicas, require_tensorflow_or_jax
from keras_extras._core.checks import check_integer, check_learning_rate, check_number, check_seed
from keras_extras._core.differentiation import dense
from keras_extras._core.registration import serializable
from keras_extras._core.stateless import assign_eagerly, cond
from keras_extras._core.training_set_size import (
    NAME,
    current_training_set_size,
    learn_training_set_size,
    require_known_size,
    sized,
)


@serializable
class SGLD(keras.optimizers.Optimizer):
    """Samples the weights from their posterior while stock `fit` trains them.

    ```
    w <- w - learning_rate (g + w / (n s^2)) + sqrt(2 learning_rate temperature / n) z
    ```

    with `g` the gradient of the mean loss of a batch, a negative log-likelihood, `n` the number of
    training rows, `s` the standard deviation of a normal prior and `z` standard normal noise. It is
    the method of Welling and Teh with their step size `2 learning_rate / n`, so that learning rates
    are those of SGD. For small learning rates the weights walk through the posterior, and every
    `thinning_steps` steps they are kept: `inference.Posterior.from_optimizer(model)` predicts with
    them. The noise of batches adds to `z`; large batches and small learning rates keep it small.

    References:
        Welling and Teh (2011), "Bayesian learning via stochastic gradient Langevin dynamics".

    Args:
        learning_rate: Float or `keras.optimizers.schedules.LearningRateSchedule`. Defaults to
            `0.01`.
        training_set_size: Integer, the number `n`, or `"auto"`, which infers the
            number of rows in `fit`. Defaults to `"auto"`.
        prior_stddev: Float, the standard deviation `s` of the prior; `None` for no other prior
            than regularizers in the loss. Defaults to `None`.
        temperature: Float, 1 for the posterior, 0 for SGD. Defaults to `1.0`.
        num_samples: Integer, how many samples to keep, the latest. Defaults to `100`.
        burnin_steps: Integer, steps before the first sample may be kept. Defaults to `0`.
        thinning_steps: Integer, a sample is kept every so many steps. Defaults to `10`.
        seed: Integer seed of the noise. Defaults to `None`.
        name: String, name of the optimizer. Defaults to `"sgld"`.
        **kwargs: Of `keras.optimizers.Optimizer`, such as `clipnorm`.

    Raises:
        ImportError: On a Keras backend other than TensorFlow and JAX.
        ValueError: In training, if `training_set_size="auto"` and the size is unknown; if there are
            several replicas, whose weights the noise would drive apart.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import inference, layers, optimizers

    model = keras.Sequential([keras.layers.Dense(2), layers.IndependentNormal(1)])
    optimizer = optimizers.SGLD(0.01, prior_stddev=1.0, burnin_steps=20, thinning_steps=2)
    model.compile(optimizer, loss=lambda y, rv_y: -rv_y.log_prob(y))
    x = np.linspace(-1.0, 1.0, 64)[:, None]
    model.fit(x, 2.0 * x, epochs=20, verbose=0)
    posterior = inference.Posterior.from_optimizer(model)
    posterior.predict_distribution(x).epistemic_variance()
    ```
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        training_set_size: int | str = "auto",
        prior_stddev: float | None = None,
        temperature: float = 1.0,
        num_samples: int = 100,
        burnin_steps: int = 0,
        thinning_steps: int = 10,
        seed: int | None = None,
        name: str = "sgld",
        **kwargs: Any,
    ):
        require_tensorflow_or_jax(type(self).__name__)
        super().__init__(learning_rate=check_learning_rate(learning_rate), name=name, **kwargs)
        if isinstance(training_set_size, str) and training_set_size == "auto":
            learn_training_set_size()
            self.training_set_size: int | str = training_set_size
        elif isinstance(training_set_size, str):
            raise ValueError(
                "`training_set_size` must be an integer or 'auto'. "
                f"Received: training_set_size={training_set_size!r}"
            )
        else:
            self.training_set_size = check_integer("training_set_size", training_set_size)
        self.prior_stddev = prior_stddev
        if prior_stddev is not None:
            self.prior_stddev = check_number("prior_stddev", prior_stddev, above=0.0)
        self.temperature = check_number("temperature", temperature, at_least=0.0)
        self.num_samples = check_integer("num_samples", num_samples)
        self.burnin_steps = check_integer("burnin_steps", burnin_steps, minimum=0)
        self.thinning_steps = check_integer("thinning_steps", thinning_steps)
        self.seed = check_seed(seed)
        self._seed_generator = keras.random.SeedGenerator(self.seed)
        self._seed_state = self._seed_generator.state  # tracked: saved with the optimizer

    @property
    def asks_for_training_set_size(self) -> bool:
        """Whether `fit` gives the number of rows to the optimizer."""
        return self.training_set_size == "auto"

    def build(self, variables: list[keras.Variable]) -> None:
        # For none it is built by Keras' loader of `.h5`, before the weights are known.
        if self.built or not variables:
            return
        _check_one_replica(type(self).__name__)
        super().build(variables)
        self._size = None
        if self.training_set_size == "auto":
            initial = keras.initializers.Constant(current_training_set_size())
            self._size = sized(self.add_variable((), initial, "float32", name=NAME))
        # In a function, so that Keras does not take the weights for the optimizer's variables.
        self._sampled = lambda: variables
        self._num_collected = self.add_variable((), "zeros", "int32", name="num_collected")
        self._samples = [
            self.add_variable(
                (self.num_samples, *variable.shape), "zeros", variable.dtype, name=f"samples_{i}"
            )
            for i, variable in enumerate(variables)
        ]

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        before, is_due = ops.copy(self.iterations), self.collects()
        super().apply(dense(grads), trainable_variables)
        # Accumulated gradients have not moved the weights yet.
        collects = ops.logical_and(is_due, self.iterations > before)
        slot = ops.mod(self._num_collected, self.num_samples)

        def collect():
            for samples, variable in zip(self._samples, self._sampled()):
                start = (slot, *(0,) * len(variable.shape))
                kept = ops.slice_update(
                    ops.convert_to_tensor(samples), start, ops.copy(variable)[None]
                )
                samples.assign(kept)
            return slot

        # Only steps that collect touch the samples, which are many times larger than the weights.
        assign_eagerly(lambda: cond(collects, collect, lambda: slot), self._samples)
        self._num_collected.assign_add(ops.cast(collects, "int32"))

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        # Numbers of rows are beyond half precision, and steps are lost in it.
        dtype = keras.backend.result_type(variable.dtype, "float32")
        step_size, temperature, size = (
            ops.cast(number, dtype)
            for number in (
                self.step_size(learning_rate),
                self.current_temperature(),
                self._known_size(),
            )
        )
        gradient = ops.cast(gradient, dtype)
        value = ops.cast(variable, dtype)
        if self.prior_stddev is not None:
            gradient = gradient + value / (size * self.prior_stddev**2)
        noise = keras.random.normal(variable.shape, dtype=dtype, seed=self._seed_generator)
        value = value - step_size * gradient
        value = value + ops.sqrt(2.0 * step_size * temperature / size) * noise
        self.assign(variable, ops.cast(value, variable.dtype))

    def step_size(self, learning_rate: Any) -> Any:
        """Returns the step size of this step."""
        return learning_rate

    def current_temperature(self) -> Any:
        """Returns the temperature of the noise of this step."""
        return self.temperature

    def collects(self) -> Any:
        """Returns whether the weights after this step are kept."""
        step = self.iterations + 1 - self.burnin_steps
        return ops.logical_and(step > 0, ops.equal(ops.mod(step, self.thinning_steps), 0))

    @property
    def first_sample_step(self) -> int:
        """After how many steps the first weights are kept."""
        return self.burnin_steps + self.thinning_steps

    def _known_size(self):
        if self._size is None:
            return self.training_set_size
        require_known_size(self._size, f"The optimizer {self.name!r}")
        return self._size

    def samples(self) -> list[np.ndarray]:
        """The samples that were collected, the oldest first.

        Returns:
            Arrays of shape `(count, *shape)`, one for each trainable variable of the model.

        Raises:
            ValueError: If there is none yet.
        """
        count = int(ops.convert_to_numpy(self._num_collected)) if self.built else 0
        if count == 0:
            raise ValueError(
                f"The optimizer {self.name!r} has collected no samples yet: train for at least "
                f"{self.first_sample_step} steps"
            )
        # A ring: the oldest sample is where the next would be written.
        order = np.arange(count - min(count, self.num_samples), count) % self.num_samples
        return [ops.convert_to_numpy(samples)[order] for samples in self._samples]

    def get_config(self) -> dict[str, Any]:
        names = ["training_set_size", "prior_stddev", "temperature", "num_samples"]
        names += ["burnin_steps", "thinning_steps", "seed"]
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _check_one_replica(name):
    replicas = num_replicas()
    if replicas > 1:
        raise ValueError(
            f"`{name}` draws noise for one copy of the weights and works with one replica. "
            f"Received: a strategy of {replicas} replicas"
        )
