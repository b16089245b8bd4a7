"""CMAES: evolution strategy that learns the covariance of its steps."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import check_integer, check_number
from keras_extras._core.flat_vectors import flat_rows, split_entries
from keras_extras._core.precision import widest_float
from keras_extras._core.registration import serializable
from keras_extras._core.stateless import cond, while_loop
from keras_extras.optimizers.cma_constants import StrategyConstants
from keras_extras.optimizers.full_batch import FullBatch
from keras_extras.optimizers.population_optimizer import PopulationOptimizer
from keras_extras.optimizers.priors import Prior

_MAX_WEIGHTS = 5_000
_TOLERANCE = 1e-12
_MAX_CONDITION = 1e14
_MANY_TIES = 0.7


@serializable
class CMAES(FullBatch, PopulationOptimizer):
    r"""Trains by an evolution strategy that adapts the covariance matrix of its steps.

    In every update `population_size` candidates are drawn from a normal distribution, evaluated in
    one vectorized call, and ranked. The mean moves to a weighted average of the better half, and
    the covariance learns from the directions of the better and, with negative weights, of the
    worse ones,

        w_k = m + sigma y_k,  y_k ~ N(0, C)
        m <- m + learning_rate * sigma * sum_i weight_i y_i

    while the step size sigma follows the length of the path that m took. Only ranks count: the
    search is the same for any increasing function of the loss. All constants are those of
    Hansen's tutorial, equations 49 to 58. Where seven in ten candidates have the least loss, other
    than 0, as with losses in steps, the step size grows up to `sigma`.

    With C it learns how weights depend on each other, which takes memory of the square of their
    number and about ten times as many evaluations as there are weights before it pays. For more
    than a few thousand weights, or where batches differ much, take `MonteCarloOptimizer`. It
    computes in float64; on JAX in float32, if not `jax_enable_x64` is set.

    Candidates whose loss is not finite rank last, and are counted as `nonfinite_candidates` in
    the logs. When no candidate has a finite loss, training stops with a `ValueError` and the
    weights stay as they were.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule` or a callable;
            the share of a step that the mean takes. Less than 1 averages over noisy batches.
            Defaults to `1.0`.
        population_size: Integer of at least 4, the candidates for each update; `None` for
            `4 + floor(3 log(d))` for d weights. More of them find better minima among many.
            Defaults to `None`.
        sigma: Positive float, the standard deviation of the first candidates in each weight, in
            units of the weight or, where a prior has a standard deviation above 1 or below 0.01,
            of that. Defaults to `0.1`.
        priors: Dict from patterns to sampling distributions of `keras_extras.optimizers.priors`,
            as in `MonteCarloOptimizer`. Defaults to `None`.
        transforms: Dict from patterns to functions of `keras_extras.optimizers.transforms`, as in
            `MonteCarloOptimizer`. Defaults to `None`.
        generations_per_batch: Integer, how many updates to make on each batch: with 10 of them a
            batch takes about as many candidates as an update of `MonteCarloOptimizer`. Where
            batches differ, 1 follows a single batch least. Defaults to `10`.
        num_prior_samples: Integer, how many candidates to draw from the priors on the first batch;
            the search starts from the best of them, or from the given weights if those are
            better. Defaults to `0`.
        restarts: Integer, how often the search may restart with twice the population when it
            has converged: from a draw of the prior, or for weights without one from the first
            weights with 3 `sigma` times normal noise. Needs `keep="best"`. Defaults to `0`.
        keep: Which weights the model gets: `"current"`, the mean of the search; `"average"` or
            `"best"`, as in `MonteCarloOptimizer`. Defaults to `"current"`.
        chunk_size: Integer, how many candidates to evaluate at once; `None` for all; `"auto"`, as
            in `MonteCarloOptimizer`. Defaults to `"auto"`.
        vectorize: How to evaluate candidates: `True`, all of a chunk in one vectorized call;
            `False`, one after another; `"auto"`, vectorized where the loss allows it. Losses that
            select rows by predictions (`y[y_pred > 0]`, `tf.boolean_mask`, `tf.unique`) and losses
            in NumPy (`tf.numpy_function`, or with `run_eagerly=True`) do not. Defaults to
            `"auto"`.
        seed: Integer or `None`. Defaults to `None`.
        name: String. Defaults to `"cma_es"`.
        **kwargs: Other arguments of `keras.optimizers.Optimizer`, such as `use_ema`.

    Raises:
        ValueError: If an argument is out of range; when training starts, if a pattern matches no
            trainable variable, a transform changes a shape, or there are more than 5,000 weights.

    Example:

    ```python
    import keras
    import keras_extras
    import numpy as np

    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    y = x @ np.array([[1.0], [-2.0], [0.5], [3.0]], "float32")

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras_extras.optimizers.CMAES(), loss="mae")
    model.fit(x, y, batch_size=256, epochs=10, verbose=0)
    ```

    References:
        - [Hansen, 2016, "The CMA Evolution Strategy: A Tutorial"](
          https://arxiv.org/abs/1604.00772)
        - Auger and Hansen, 2005, "A restart CMA evolution strategy with increasing population
          size", IEEE Congress on Evolutionary Computation
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        population_size: int | None = None,
        sigma: float = 0.1,
        priors: Mapping[str, Prior] | None = None,
        transforms: Mapping[str, Callable[[Any], Any]] | None = None,
        generations_per_batch: int = 10,
        num_prior_samples: int = 0,
        restarts: int = 0,
        keep: str = "current",
        chunk_size: int | str | None = "auto",
        vectorize: bool | str = "auto",
        seed: int | None = None,
        name: str = "cma_es",
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate=learning_rate,
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
        if population_size is not None:
            population_size = check_integer("population_size", population_size, minimum=4)
        self.population_size = population_size
        self.sigma = check_number("sigma", sigma, above=0)
        self.restarts = check_integer("restarts", restarts, minimum=0)
        if self.restarts and keep != "best":
            raise ValueError(
                "`restarts` give up the mean of the search, so they need keep='best'. "
                f"Received: restarts={restarts}, keep={keep!r}"
            )

    # The distribution itself learns where the loss is flat behind a constraint.
    projects_coordinates = False

    def build_search(self, coordinates: Sequence[keras.Variable]) -> None:
        self._shapes = [tuple(v.shape) for v in coordinates]
        self._size = size = sum(math.prod(shape) for shape in self._shapes)
        if size > _MAX_WEIGHTS:
            raise ValueError(
                f"CMAES learns covariances of at most {_MAX_WEIGHTS:,} weights; for more, take "
                f"MonteCarloOptimizer. Received: {size:,} weights"
            )
        population = self.population_size or 4 + int(3 * math.log(size))
        runs = [StrategyConstants.of(population * 2**run, size) for run in range(self.restarts + 1)]
        self._weights = np.zeros((len(runs), population * 2**self.restarts))
        for row, run in zip(self._weights, runs):
            row[: len(run.weights)] = run.weights
        self._population = population
        self._runs = runs
        self._gap = max(1, int(1 / (10 * size * (runs[0].c_1 + runs[0].c_mu))))

        # The condition of the covariance is that of the problem, squared.
        self._dtype = widest_float()

        def add(name, shape, initializer="zeros", dtype=self._dtype):
            return self.add_variable(shape, initializer=initializer, dtype=dtype, name=name)

        self._step_size = add("step_size", (), keras.initializers.Constant(self.sigma))
        self._covariance = add("covariance", (size, size), keras.initializers.Identity())
        self._basis = add("basis", (size, size), keras.initializers.Identity())
        self._axes = add("axes", (size,), "ones")
        self._p_sigma = add("p_sigma", (size,))
        self._p_c = add("p_c", (size,))
        self._age = add("age", (), dtype="int32")
        self._run = add("run", (), dtype="int32")
        if self.restarts:
            self._first = add("first_mean", (size,))
            history = 10 + math.ceil(30 * size / population)
            self._history = add("best_losses", (history,), dtype="float32")

    @property
    def _units(self):
        """The unit of each weight, in a row."""
        parts = [np.full(math.prod(s), p.scale) for s, p in zip(self._shapes, self.parameters)]
        return np.concatenate(parts)

    def _flat(self, parts):
        """From tensors of shape `(n, ...)` to one of shape `(n, size)`."""
        return flat_rows([ops.cast(part, self._dtype) for part in parts])

    def _shaped(self, rows):
        """From a tensor of shape `(n, size)` to those of the variables, in float32."""
        return split_entries(ops.cast(rows, "float32"), self._shapes)

    def ask(self) -> tuple[list[Any], Any]:
        rows = self._weights.shape[1]
        noise = keras.random.normal((rows, self._size), dtype=self._dtype, seed=self.seed_generator)
        steps = ops.matmul(noise * self._axes, ops.transpose(self._basis))
        mean = self._flat([ops.copy(p.coordinates)[None] for p in self.parameters])
        if self.restarts:
            is_first = ops.equal(self.iterations, 0)
            self._first.assign(ops.where(is_first, mean[0], ops.copy(self._first)))
        return self._shaped(mean + self._step_size * self._units * steps), (steps, noise)

    def tell(self, drawn: Any, losses: Any) -> None:
        ranked = ops.argsort(losses)
        self._adapt(*(ops.take(part, ranked, axis=0) for part in drawn))
        self._widen_if_flat(losses)
        if self.restarts:
            self._restart_if_converged(ops.min(losses))

    def evaluate(self, loss_at: Callable, candidates: Sequence[Any]) -> Any:
        """Losses of the candidates of this run, infinite for the places of larger populations."""
        if not self.restarts:
            return super().evaluate(loss_at, candidates)
        evaluate = super().evaluate
        count = self._population

        def evaluate_next(done, losses):
            part = [
                ops.slice(c, [done, *[0] * (c.ndim - 1)], [count, *c.shape[1:]]) for c in candidates
            ]
            return done + count, ops.slice_update(losses, [done], evaluate(loss_at, part))

        active = count * ops.left_shift(1, self._run)
        start = (
            ops.convert_to_tensor(0),
            ops.full((len(self._weights[0]),), float("inf"), "float32"),
        )
        return while_loop(lambda done, losses: done < active, evaluate_next, start)[1]

    def _adapt(self, steps, noise):
        """Moves the distribution, given the candidates' steps from best to worst."""
        c = self._constants()
        weights = ops.take(ops.convert_to_tensor(self._weights), self._run, axis=0)
        positive = ops.maximum(weights, 0.0)
        size = float(self._size)
        step = ops.matmul(positive, steps)
        white_step = ops.matmul(self._basis, ops.matmul(positive, noise))
        moves = self._shaped((self._step_size * self._units * step)[None])
        rate = ops.cast(ops.copy(self.learning_rate), self._dtype)
        self.descend([-move[0] for move in moves], [p.coordinates for p in self.parameters])
        if any(p.projection is not None for p in self.parameters):
            taken_back = ops.divide_no_nan(self._limit_distance_from_allowed(), rate)
            step += taken_back
            white_step += ops.matmul(self._basis, ops.matmul(taken_back, self._basis) / self._axes)

        expected = math.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))
        p_sigma = (1 - c.c_sigma) * self._p_sigma
        p_sigma += ops.sqrt(c.c_sigma * (2 - c.c_sigma) * c.mu_eff) * white_step
        length = ops.norm(p_sigma)
        age = ops.cast(self._age + 1, self._dtype)
        normalized = length / ops.sqrt(1 - ops.power(1 - c.c_sigma, 2 * age))
        h_sigma = ops.cast(normalized < (1.4 + 2 / (size + 1)) * expected, self._dtype)
        p_c = (1 - c.c_c) * self._p_c
        p_c += h_sigma * ops.sqrt(c.c_c * (2 - c.c_c) * c.mu_eff) * step

        # A worse candidate counts by its direction, not its length.
        squared = ops.sum(ops.square(noise), axis=1)
        scaled = ops.where(weights < 0, weights * size / squared, weights)
        rank_mu = ops.matmul(ops.transpose(steps), scaled[:, None] * steps)
        rank_one = p_c[:, None] * p_c[None, :]
        stay = 1 - c.c_1 - c.c_mu * ops.sum(weights)
        stay += c.c_1 * (1 - h_sigma) * c.c_c * (2 - c.c_c)
        self._covariance.assign(stay * self._covariance + c.c_1 * rank_one + c.c_mu * rank_mu)
        self._p_sigma.assign(p_sigma)
        self._p_c.assign(p_c)
        self._step_size.assign(
            self._step_size
            * ops.exp(ops.minimum(1.0, c.c_sigma / c.d_sigma * (length / expected - 1)))
        )
        self._age.assign_add(1)
        cond(ops.equal(self._age % self._gap, 0), self._decompose, lambda: None)

    def _widen_if_flat(self, losses):
        """Widens the search where most candidates have the least loss (tutorial, appendix C)."""
        least = ops.min(losses)
        count = ops.cast(self._population * ops.left_shift(1, self._run), "float32")
        is_flat = ops.sum(ops.cast(losses == least, "float32")) >= _MANY_TIES * count
        widens = is_flat & (least != 0.0) & (self._step_size < self.sigma)
        c = self._constants()
        factor = ops.where(widens, ops.exp(0.2 + c.c_sigma / c.d_sigma), 1.0)
        self._step_size.assign(self._step_size * factor)

    def _limit_distance_from_allowed(self):
        """Brings the mean back to one standard deviation from where constraints allow it to be.

        Values are projected where the loss is evaluated, so the loss is flat behind a constraint:
        closer than this candidates still reach the allowed side.

        Returns:
            The change of the mean as a step, by which the paths are corrected. They would
            lengthen without end if steps that are taken back counted.
        """
        here = self._flat([ops.copy(p.coordinates)[None] for p in self.parameters])[0]
        allowed = [
            p.coordinates if p.projection is None else p.projection(ops.copy(p.coordinates))
            for p in self.parameters
        ]
        allowed = self._flat([ops.copy(part)[None] for part in allowed])[0]
        unit = self._step_size * self._units
        width = unit * ops.sqrt(ops.diagonal(self._covariance))
        change = allowed + ops.clip(here - allowed, -width, width) - here
        for p, part in zip(self.parameters, self._shaped(change[None])):
            if p.projection is not None:
                p.coordinates.assign_add(ops.cast(part[0], p.coordinates.dtype))
        return change / unit

    def _constants(self):
        table = ops.convert_to_tensor(np.array([run[1:] for run in self._runs]))
        return StrategyConstants(None, *ops.unstack(ops.take(table, self._run, axis=0)))

    def _decompose(self):
        matrix = 0.5 * (self._covariance + ops.transpose(self._covariance))
        values, vectors = ops.eigh(matrix)
        least = float(np.finfo(self._dtype).eps) * ops.max(values)
        self._axes.assign(ops.sqrt(ops.maximum(values, least)))
        self._basis.assign(vectors)

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Takes the step of the mean."""
        rate = ops.cast(learning_rate, variable.dtype)
        variable.assign_sub(rate * ops.cast(gradient, variable.dtype))

    def search_state(self) -> dict[str, float]:
        state = super().search_state()
        if not self.built:
            return {**state, "width": self.sigma, "axis_ratio": 1.0}
        axes = self._axes.numpy()
        width = float(self._step_size.numpy()) * float(np.sqrt(np.mean(axes**2)))
        return {**state, "width": width, "axis_ratio": float(axes.max() / axes.min())}

    def _restart_if_converged(self, best):
        history = self._history.shape[0]
        self._history.assign(ops.concatenate([ops.copy(self._history)[1:], best[None]]))
        spread = ops.max(self._history) - ops.min(self._history)
        stalls = ops.logical_and(self._age >= history, spread < _TOLERANCE)
        widths = self._step_size * ops.sqrt(ops.diagonal(self._covariance))
        is_narrow = ops.max(widths) < _TOLERANCE * self.sigma
        condition = ops.square(ops.max(self._axes) / ops.min(self._axes))
        converged = stalls | is_narrow | (condition > _MAX_CONDITION)
        cond(converged & (self._run < self.restarts), self._restart, lambda: None)

    def _restart(self):
        noise = keras.random.normal((1, self._size), dtype=self._dtype, seed=self.seed_generator)
        starts = self._shaped(self._first + 3.0 * self.sigma * self._units * noise)
        for p, start in zip(self.parameters, starts):
            if p.prior is not None:
                start = p.to_coordinates(p.prior.sample(start.shape[1:], self.seed_generator))[None]
            p.coordinates.assign(ops.cast(start[0], p.coordinates.dtype))
        self._step_size.assign(self.sigma)
        self._covariance.assign(np.eye(self._size))
        self._basis.assign(np.eye(self._size))
        self._axes.assign(np.ones(self._size))
        self._p_sigma.assign(np.zeros(self._size))
        self._p_c.assign(np.zeros(self._size))
        self._age.assign(0)
        self._run.assign_add(1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "population_size": self.population_size,
            "sigma": self.sigma,
            "restarts": self.restarts,
        }
