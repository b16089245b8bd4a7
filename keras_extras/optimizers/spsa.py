"""SPSA: trains large models by one pair of candidates at a time."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.registration import serializable
from keras_extras._seams.optimizer_variables import index_of
from keras_extras.optimizers.directional_search import DirectionalSearch
from keras_extras.optimizers.directions import dense, scaled
from keras_extras.optimizers.priors import Prior
from keras_extras.optimizers.replicas import is_shared_out
from keras_extras.optimizers.simultaneous_perturbation import (
    ReplayedDraw,
    better_candidate,
    evaluate_pair,
)

# What an update saves when it is compiled, measured, in numbers computed.
_PER_WEIGHT = 64
_OF_OPERATIONS = 2e6


@serializable
class SPSA(DirectionalSearch):
    r"""Trains by simultaneous perturbation, in little more memory than inference takes.

    For every batch the loss is evaluated twice, on either side of the current weights w along a
    random direction e, and the weights move along that direction:

        slope = (L(w + sigma e) - L(w - sigma e)) / (2 sigma)
        v <- beta_2 v + (1 - beta_2) slope^2
        w <- w - learning_rate * slope / (sqrt(v / (1 - beta_2^t)) + epsilon) * e

    with t the number of updates. This is simultaneous perturbation (Spall, 1992), for models that
    are too large for a population or for the memory of backpropagation. As in MeZO (Malladi et
    al., 2023), random numbers are drawn again wherever they are needed in place of being stored.
    The second moment v is one number, since the squares of random signs are one, and there is no
    momentum, so that no copy of the weights is kept. Nothing in the model or in the loss needs to
    be differentiable. A step is noisy, and many are needed: where a population fits in memory,
    `MonteCarloOptimizer` is the better choice.

    The defaults of `learning_rate` and `sigma` are careful, for millions of weights that each step
    moves all together. Small models take larger ones, such as 0.003 and 0.01.

    With `keep="current"` a batch takes no more than the two evaluations: the logs show the mean
    loss of the two candidates, and the metrics of one. A pair of which a loss is not finite is
    counted as `nonfinite_candidates` in the logs; then training stops with a `ValueError`, and
    the weights stay as they were.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule` or a callable;
            the size of a step in each weight, in the unit of `sigma`. Defaults to `1e-4`.
        sigma: Positive float, the distance of the candidates from the current weights in each
            weight, in units of the weight or, where a prior has a standard deviation above 1 or
            below 0.01, of that. Losses that jump need a larger one.
            Defaults to `1e-3`.
        priors: Dict from patterns to sampling distributions of `keras_extras.optimizers.priors`,
            as in `MonteCarloOptimizer`. Defaults to `None`.
        transforms: Dict from patterns to functions of `keras_extras.optimizers.transforms`, as in
            `MonteCarloOptimizer`. Transformed weights keep a copy. Defaults to `None`.
        update_probability: Float in (0, 1], the chance of each weight to be changed in a
            candidate. Defaults to `1.0`.
        generations_per_batch: Integer, how many updates to make on each batch.
            Defaults to `1`.
        num_prior_samples: Integer, how many candidates to draw from the priors on the first batch;
            the search starts from the best of them, or from the given weights if those are
            better. They are held in memory together. Defaults to `0`.
        noise: The distribution of the directions e: `"sign"`, random signs, which are those of
            `"orthogonal"` too, as there is one direction; `"normal"`; `"low_rank"`, for each
            kernel a column times a row of random signs, which draws the fewest random numbers.
            Defaults to `"orthogonal"`.
        sigma_decay_power: Float in [0, 1), the power with which the distance falls: it is
            `sigma / (1 + updates) ** sigma_decay_power`. Defaults to `0.16`.
        beta_2: Float in [0, 1), the decay of the second moment. Defaults to `0.999`.
        epsilon: Positive float that keeps the step finite. Defaults to `1e-8`.
        keep: Which weights the model gets: `"current"`, where the search is now; `"average"` or
            `"best"`, as in `MonteCarloOptimizer`, which keep copies and evaluate the loss more
            often. Defaults to `"current"`.
        chunk_size: Integer, how many of the draws of `num_prior_samples` to evaluate at once;
            `None` or `"auto"` as in `MonteCarloOptimizer`. Defaults to `"auto"`.
        vectorize: How to evaluate these draws: `True`, `False` or `"auto"`, as in
            `MonteCarloOptimizer`. A pair is evaluated one after the other. Defaults to `"auto"`.
        seed: Integer or `None`. Defaults to `None`.
        name: String. Defaults to `"spsa"`.
        **kwargs: Other arguments of `keras.optimizers.Optimizer`: `weight_decay`, `clipnorm`,
            `clipvalue`, `global_clipnorm`, `use_ema`, `ema_momentum`,
            `ema_overwrite_frequency`.

    Raises:
        ValueError: If an argument is out of range; when training starts, if a pattern matches no
            trainable variable or a transform changes a shape.

    Example:

    ```python
    import keras
    import keras_extras
    import numpy as np

    x = np.random.default_rng(0).normal(size=(256, 16)).astype("float32")
    y = (x[:, :1] > 0).astype("float32")

    hidden = keras.layers.Dense(512, activation="relu")
    model = keras.Sequential([keras.Input((16,)), hidden, keras.layers.Dense(1)])
    optimizer = keras_extras.optimizers.SPSA(seed=0)
    model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    ```

    References:
        - Spall, 1992, "Multivariate stochastic approximation using a simultaneous perturbation
          gradient approximation", IEEE Transactions on Automatic Control 37(3)
        - [Malladi et al., 2023, "Fine-Tuning Language Models with Just Forward Passes"](
          https://arxiv.org/abs/2305.17333)
    """

    # That would take a copy of the weights.
    records_steps = False

    def __init__(
        self,
        learning_rate: Any = 1e-4,
        sigma: float = 1e-3,
        priors: Mapping[str, Prior] | None = None,
        transforms: Mapping[str, Callable[[Any], Any]] | None = None,
        update_probability: float = 1.0,
        generations_per_batch: int = 1,
        num_prior_samples: int = 0,
        noise: str = "orthogonal",
        sigma_decay_power: float = 0.16,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        keep: str = "current",
        chunk_size: int | str | None = "auto",
        vectorize: bool | str = "auto",
        seed: int | None = None,
        name: str = "spsa",
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate=learning_rate,
            sigma=sigma,
            sigma_decay_power=sigma_decay_power,
            update_probability=update_probability,
            noise=noise,
            beta_2=beta_2,
            epsilon=epsilon,
            priors=priors,
            transforms=transforms,
            generations_per_batch=generations_per_batch,
            num_prior_samples=num_prior_samples,
            keep=keep,
            chunk_size=chunk_size,
            vectorize=vectorize,
            seed=seed,
            name=name,
            **kwargs,
        )

    def build_search(self, coordinates: Sequence[keras.Variable]) -> None:
        super().build_search(coordinates)
        self._velocity = self.add_variable((), dtype="float32", name="velocity")

    def take_step(
        self, loss_and_outputs: Callable, variables: Sequence[keras.Variable], batch_size: Any
    ) -> tuple[Any, Any]:
        """Takes loss and outputs for the logs from the candidates, if that is near enough."""
        if self.keep != "current" or is_shared_out():
            return super().take_step(loss_and_outputs, variables, batch_size)
        seen = []

        def loss_fn():
            seen.append(loss_and_outputs())
            return seen[-1][0]

        self.minimize(loss_fn, variables)
        (plus, _), (minus, outputs) = seen[-2:]
        return (plus + minus) / 2, outputs

    def work_per_update(self) -> float:
        """Returns how much an update saves when it is compiled by XLA, in numbers computed."""
        weights = sum(math.prod(p.coordinates.shape) for p in self.parameters)
        return _PER_WEIGHT * weights + _OF_OPERATIONS

    def generation(self, loss_at: Callable) -> tuple[list[Any], Any]:
        width = self._width()
        draw = ReplayedDraw(
            lambda: keras.tree.map_structure(lambda e: e[0], self._directions(1)(0, 1)),
            self.seed_generator,
        )
        plus, minus = evaluate_pair(loss_at, self.parameters, draw, width)
        self.count_nonfinite(ops.stack([plus, minus]))
        failed = ~ops.isfinite(plus - minus)
        slope = (plus - minus) / (2 * width * self.update_probability)
        self.count_ties(plus == minus, plus)

        def gradients():
            self._velocity.assign_add((slope**2 - self._velocity) * (1 - self.beta_2))
            updates = ops.cast(self.iterations + 1, "float32")
            correction = 1 - ops.power(self.beta_2, updates)
            size = slope / (ops.sqrt(self._velocity / correction) + self.epsilon)
            return [dense(scaled(e, size)) for e in draw(after=slope)]

        self._descend_unless(failed, gradients)
        return better_candidate(self.parameters, draw, width, plus, minus)

    def update_step(self, gradient, variable, learning_rate) -> None:
        scale = self.parameters[index_of(self, variable)].scale
        rate = ops.cast(learning_rate, variable.dtype) * scale
        variable.assign_sub(rate * ops.cast(gradient, variable.dtype))
