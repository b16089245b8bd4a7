"""MonteCarloOptimizer: trains by sampling the loss around its minimum."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_choice, check_integer, check_number
from keras_extras._core.registration import serializable
from keras_extras.optimizers.directions import DIRECTIONS
from keras_extras.optimizers.intervals import Interval, interval_of
from keras_extras.optimizers.population import best_of, evaluate_population
from keras_extras.optimizers.population_optimizer import PopulationOptimizer
from keras_extras.optimizers.priors import Prior

_ELITE_HISTORY = 100
_ELITE_HISTORY_MAX_WEIGHTS = 10_000


@serializable
class MonteCarloOptimizer(PopulationOptimizer):
    r"""Trains by sampling the loss around its minimum, without gradients of the model.

    For every batch, `population_size` candidates are drawn in pairs on either side of the current
    weights w, `w + sigma * e` and `w - sigma * e`, and all are evaluated on the batch in one
    vectorised call. The differences of their losses estimate the gradient of the loss smoothed
    over the sampling distribution,

        g = sum_i (L(w + sigma e_i) - L(w - sigma e_i)) e_i / (2 sigma n),

    and the search takes an Adam step along it. The model's weights are an average over where the
    search was lately (Shamir and Zhang, 2013), so that its noise averages out without a learning
    rate schedule. Nothing in the model or in the loss needs to be differentiable: rounding, argmax
    and the 0-1 loss train. This is an antithetic evolution strategy (Salimans et al., 2017) with
    loss differences (Spall, 1992) and orthogonal random signs as directions (Choromanski et al.,
    2018), built on the ideas of KernelML: parameters with sampling distributions of their own,
    constraints by transform, probabilistic updates, and what was sampled near the minimum kept
    for intervals.

    Candidates whose loss is not finite are left out, with their partner, and counted as
    `nonfinite_candidates` in the logs. When no candidate has a finite loss, training stops with
    a `ValueError` and the weights stay as they were.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule` or a callable;
            the size of a step, in the unit of `sigma`. The step of a schedule is one update.
            Defaults to `0.005`.
        population_size: Even integer of at least 2, the candidates for each update.
            Defaults to `256`.
        sigma: Positive float, the distance of the candidates from the current weights in each
            weight, in units of the weight or, where the weight has a prior, of the prior's
            standard deviation. Defaults to `0.05`.
        priors: Dict from patterns to sampling distributions of `keras_extras.optimizers.priors`.
            A pattern is matched as in `fnmatch` with `variable.path` or with its end, and the
            first that matches counts: `{"*/alpha": HalfNormal(1.0)}`. A prior sets the unit of a
            variable and, with `prior_samples`, where its search starts. It adds nothing to the
            loss. Defaults to `None`.
        transforms: Dict from patterns to functions of `keras_extras.optimizers.transforms`, or
            any function of a tensor that keeps its shape: the search moves free coordinates and
            the model only sees their transform. Keras constraints of a variable are applied to
            every candidate as well. Defaults to `None`.
        update_probability: Float in (0, 1], the chance of each weight to be changed in a
            candidate. Defaults to `1.0`.
        generations_per_batch: Integer, how many updates to make on each batch.
            Defaults to `1`.
        prior_samples: Integer, how many candidates to draw from the priors on the first batch;
            the search starts from the best of them, or from the given weights if those are
            better. Defaults to `0`.
        noise: The distribution of the directions e: `"orthogonal"`, random signs with directions
            at right angles to each other; `"sign"`, independent random signs; `"normal"`.
            Defaults to `"orthogonal"`.
        sigma_decay: Float in [0, 1), the power with which the distance falls: it is
            `sigma / (1 + updates) ** sigma_decay`. 1/6 is the best of Fabian (1967) for
            smooth losses; 0 suits losses that jump. Defaults to `0.16`.
        beta_1: Float in [0, 1), the decay of the first moment. Defaults to `0.9`.
        beta_2: Float in [0, 1), the decay of the second moment. Defaults to `0.999`.
        epsilon: Positive float that keeps the step finite. Defaults to `1e-8`.
        elite_history: Integer, of how many updates to keep the best candidate, in as many copies
            of the weights, for `confidence_intervals`. `None` means 100 for models of up to
            10,000 weights and 0 above. Defaults to `None`.
        keep: Which weights the model gets. `"average"`: an average over where the search was, in
            which the last tenth of all updates counts most. `"mean"`: where the search is now, as
            with other optimizers. `"best"`: the best candidate so far, compared on the batch that
            it was found on; for full batches, and losses that jump. Defaults to `"average"`.
        chunk_size: Integer, how many candidates to draw and evaluate at once; `None` for all;
            `"auto"` for as many as take about 16 MB, or 16 if that are more. Memory grows with
            it, and small chunks stay in the processor's cache. Defaults to `"auto"`.
        seed: Integer or `None`. Defaults to `None`.
        name: String. Defaults to `"monte_carlo"`.
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

    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    y = (x[:, :1] > 0).astype("float32")


    def wrong_decisions(y, score):
        return keras.ops.mean(keras.ops.cast((y > 0.5) != (score > 0), "float32"))


    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    optimizer = keras_extras.optimizers.MonteCarloOptimizer(population_size=32, sigma=0.3)
    model.compile(optimizer, loss=wrong_decisions)
    model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    ```

    References:
        - [Salimans et al., 2017, "Evolution Strategies as a Scalable Alternative to
          Reinforcement Learning"](https://arxiv.org/abs/1703.03864)
        - Spall, 1992, "Multivariate stochastic approximation using a simultaneous perturbation
          gradient approximation", IEEE Transactions on Automatic Control 37(3)
        - [Choromanski et al., 2018, "Structured Evolution with Compact Architectures for Scalable
          Policy Optimization"](https://arxiv.org/abs/1804.02395)
        - [Kingma and Ba, 2014, "Adam: A Method for Stochastic Optimization"](
          https://arxiv.org/abs/1412.6980)
        - [Shamir and Zhang, 2013, "Stochastic Gradient Descent for Non-smooth Optimization:
          Convergence Results and Optimal Averaging Schemes"](https://arxiv.org/abs/1212.1824)
        - Fabian, 1967, "Stochastic approximation of minima with improved asymptotic speed", Annals
          of Mathematical Statistics 38(1)
        - [KernelML](https://github.com/Freedomtowin/kernelml)
    """

    def __init__(
        self,
        learning_rate: Any = 0.005,
        population_size: int = 256,
        sigma: float = 0.05,
        priors: Mapping[str, Prior] | None = None,
        transforms: Mapping[str, Callable[[Any], Any]] | None = None,
        update_probability: float = 1.0,
        generations_per_batch: int = 1,
        prior_samples: int = 0,
        noise: str = "orthogonal",
        sigma_decay: float = 0.16,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        elite_history: int | None = None,
        keep: str = "average",
        chunk_size: int | str | None = "auto",
        seed: int | None = None,
        name: str = "monte_carlo",
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate=learning_rate,
            priors=priors,
            transforms=transforms,
            generations_per_batch=generations_per_batch,
            prior_samples=prior_samples,
            keep=keep,
            chunk_size=chunk_size,
            seed=seed,
            name=name,
            **kwargs,
        )
        self.population_size = check_integer("population_size", population_size, minimum=2)
        if self.population_size % 2:
            raise ValueError(
                "`population_size` must be even, because candidates come in pairs on either side "
                f"of the current weights. Received: population_size={population_size}"
            )
        self.sigma = check_number("sigma", sigma, above=0)
        self.sigma_decay = _check_decay("sigma_decay", sigma_decay)
        self.update_probability = check_number(
            "update_probability", update_probability, above=0, at_most=1
        )
        self.noise = check_choice("noise", noise, DIRECTIONS)
        self.beta_1 = _check_decay("beta_1", beta_1)
        self.beta_2 = _check_decay("beta_2", beta_2)
        self.epsilon = check_number("epsilon", epsilon, above=0)
        self.elite_history = (
            None if elite_history is None else check_integer("elite_history", elite_history, 0)
        )

    def build_search(self, coordinates: Sequence[keras.Variable]) -> None:
        self._momentums = self.add_optimizer_variables(coordinates, "momentum")
        self._velocities = self.add_optimizer_variables(coordinates, "velocity")
        self._build_elites(coordinates)

    def _build_elites(self, variables):
        rows = self.elite_history
        if rows is None:
            size = sum(math.prod(v.shape) for v in variables)
            rows = _ELITE_HISTORY if size <= _ELITE_HISTORY_MAX_WEIGHTS else 0
        self._elite_rows = rows
        self._elites = [
            self.add_variable((rows, *v.shape), dtype="float32", name=f"elites_{i}")
            for i, v in enumerate(variables if rows else ())
        ]

    def generation(self, loss_at: Callable) -> tuple[list[Any], Any]:
        pairs = self.population_size // 2
        centers = [_float32(p.coordinates) for p in self.parameters]
        shapes = [tuple(center.shape) for center in centers]
        directions = DIRECTIONS[self.noise](pairs, shapes, self.seed_generator)
        width = self._width(self.iterations + 1)
        chunk = self.chunk_of(loss_at, shapes, pairs, members=2)

        def evaluate(start, sums, usable_pairs, best, best_loss):
            noise = [self._thinned(e) for e in directions.draw(start, chunk)]
            candidates = []
            for p, center, e in zip(self.parameters, centers, noise):
                offset = width * p.scale * e
                candidates.append(ops.concatenate([center + offset, center - offset]))
            losses = evaluate_population(loss_at, candidates)
            counts = ops.tile(start + ops.arange(chunk) < pairs, [2])
            self.count_nonfinite(losses, counts)
            losses = ops.where(counts, losses, float("nan"))
            plus, minus = ops.split(losses, 2)
            usable = ops.isfinite(plus - minus)
            differences = ops.where(usable, plus - minus, 0.0)
            sums = [total + ops.tensordot(differences, e, axes=1) for total, e in zip(sums, noise)]
            usable_pairs += ops.sum(ops.cast(usable, "float32"))
            here, loss = best_of(candidates, losses)
            best = [ops.where(loss < best_loss, *pair) for pair in zip(here, best)]
            return start + chunk, sums, usable_pairs, best, ops.minimum(loss, best_loss)

        zeros = [ops.zeros(shape) for shape in shapes]
        none, infinity = ops.convert_to_tensor(0.0), ops.convert_to_tensor(float("inf"))
        start = (ops.convert_to_tensor(0), zeros, none, centers, infinity)
        if chunk >= pairs:
            _, sums, usable_pairs, best, best_loss = evaluate(*start)
        else:
            _, sums, usable_pairs, best, best_loss = ops.while_loop(
                lambda start, *_: start < pairs, evaluate, start
            )
        spread = 2 * width * self.update_probability * usable_pairs

        def update():
            self._keep_elite(best)
            self.descend([g / spread for g in sums], [p.coordinates for p in self.parameters])

        self._failed.assign(ops.equal(usable_pairs, 0))
        ops.cond(usable_pairs > 0, update, lambda: None)
        return best, best_loss

    def _width(self, update):
        return self.sigma / ops.power(_float32(update), self.sigma_decay)

    def search_state(self) -> dict[str, float]:
        width = float(self._width(ops.maximum(self.iterations, 1)))
        return {**super().search_state(), "width": width * self.update_probability**0.5}

    def _thinned(self, directions):
        """Leaves each weight as it is in a candidate, unless its chance comes."""
        if self.update_probability == 1:
            return directions
        chance = keras.random.uniform(directions.shape, dtype="float32", seed=self.seed_generator)
        return ops.where(chance < self.update_probability, directions, 0.0)

    def _keep_elite(self, best):
        if not self._elite_rows:
            return
        row = ops.cast(ops.mod(self.iterations, self._elite_rows), "int32")
        for elites, weights in zip(self._elites, best):
            start = [row] + [0] * (len(elites.shape) - 1)
            elites.assign(ops.slice_update(_float32(elites), start, weights[None]))

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Adam's step, in units of the variable's scale."""
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        gradient = ops.cast(gradient, variable.dtype)
        rate = ops.cast(learning_rate, variable.dtype) * self.parameters[index].scale
        step = ops.cast(self.iterations + 1, variable.dtype)
        momentum.assign_add((gradient - momentum) * (1 - self.beta_1))
        velocity.assign_add((ops.square(gradient) - velocity) * (1 - self.beta_2))
        mean = momentum / (1 - ops.power(ops.cast(self.beta_1, variable.dtype), step))
        square = velocity / (1 - ops.power(ops.cast(self.beta_2, variable.dtype), step))
        variable.assign_sub(rate * mean / (ops.sqrt(square) + self.epsilon))

    def confidence_intervals(self, level: float = 0.9) -> dict[str, Interval]:
        """How far from the weights the best candidates lie: intervals in KernelML's sense.

        For each weight, w -+ z r, where z is the normal quantile of `level` and r the root mean
        square distance of the best candidates of the last `elite_history` updates from w. Where
        there is a transform, the search's coordinates stand for w and the ends are transformed.
        Such intervals are weak: they depend on `sigma` and the learning rate, with random signs
        as `noise` r is at least about the width of the search for every weight, and nothing is
        promised about covering a true value.

        Args:
            level: Float between 0 and 1. Defaults to `0.9`.

        Returns:
            Dict from variable path to an `Interval(lower, center, upper)` of arrays of the
            variable's shape, the center being the current weights.

        Raises:
            ValueError: If nothing was sampled yet, or with `elite_history=0`.
        """
        level = check_number("level", level, above=0)
        if level >= 1:
            raise ValueError(f"`level` must be less than 1. Received: level={level}")
        updates = int(self.iterations) if self.built else 0
        if not updates or not self._elite_rows:
            raise ValueError(
                "There are no samples for confidence intervals. Train first, with "
                "`elite_history` of at least 1 (by default, models of more than "
                f"{_ELITE_HISTORY_MAX_WEIGHTS:,} weights keep none). Received: "
                f"elite_history={self.elite_history} after {updates} updates"
            )
        z = NormalDist().inv_cdf((1 + level) / 2)
        return {
            p.variable.path: interval_of(p, elites.numpy()[:updates], z)
            for p, elites in zip(self.parameters, self._elites)
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "population_size": self.population_size,
            "sigma": self.sigma,
            "sigma_decay": self.sigma_decay,
            "update_probability": self.update_probability,
            "noise": self.noise,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "elite_history": self.elite_history,
        }


def _check_decay(name, value):
    if check_number(name, value, at_least=0) >= 1:
        raise ValueError(f"`{name}` must be less than 1. Received: {name}={value}")
    return float(value)


def _float32(variable):
    return ops.cast(variable, "float32")
