"""MonteCarloOptimizer: trains by sampling the loss around its minimum."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_choice, check_integer, check_number
from keras_extras._core.registration import serializable
from keras_extras._core.stateless import cond
from keras_extras._core.training_set_size import NAME as TRAINING_SET_SIZE
from keras_extras._core.training_set_size import (
    learn_training_set_size,
    require_known_size,
    sized,
)
from keras_extras.optimizers.adam_search import AdamSearch
from keras_extras.optimizers.antithetic import evaluate_pairs, loss_beside
from keras_extras.optimizers.curvature import Curvature
from keras_extras.optimizers.devices import chunk_for_devices, on_all_devices, shared_out
from keras_extras.optimizers.intervals import LIKELIHOODS, Interval, intervals_of
from keras_extras.optimizers.plane_search import LEAST_POPULATION, PlaneSearch
from keras_extras.optimizers.population import evaluate_population
from keras_extras.optimizers.priors import Prior

_FULL_CURVATURE = 100
_DIAGONAL_CURVATURE = 10_000
_CANDIDATES_PER_CURVATURE = 64


@serializable
class MonteCarloOptimizer(AdamSearch):
    r"""Trains by sampling the loss around its minimum, without gradients of the model.

    For every batch, `population_size` candidates are drawn in pairs on either side of the current
    weights w, `w + sigma * e` and `w - sigma * e`, and all are evaluated on the batch in one
    vectorized call. The differences of their losses estimate the gradient of the loss smoothed
    over the sampling distribution,

        g = sum_i (L(w + sigma e_i) - L(w - sigma e_i)) e_i / (2 sigma n).

    How the search moves depends on the loss, and `repr` says which kind it found:

    - **noisy**, because batches differ or layers are random: by Adam steps along g. The model's
      weights are an average over where the search was lately (Shamir and Zhang, 2013).
    - **exact**, a function of the weights alone, as on full batches: a quarter of the candidates
      are tried in planes through the direction of descent and the last step, over a wide range of
      step sizes, and the search moves to the best of all. The width follows the length of steps.
    - **tied**, exact but in steps, such as the 0-1 loss, or with nothing better around: by Adam
      steps along g, whose width and rate follow how many candidates are no worse. The model gets
      the best candidate so far.

    Nothing in the model or in the loss needs to be differentiable: rounding, argmax and the 0-1
    loss train. With a `learning_rate` or `sigma`, weight decay, clipping, `use_ema`,
    `noise="low_rank"` or less than 32 candidates every loss is taken for noisy. This is an
    antithetic evolution strategy (Salimans et al., 2017) with loss differences (Spall, 1992) and
    orthogonal random signs as directions (Choromanski et al., 2018), built on the ideas of
    KernelML: parameters with sampling distributions of their own, constraints by transform,
    probabilistic updates, and what was sampled near the minimum kept for intervals. For models
    too large to keep a population in memory there is `SPSA`.

    Candidates whose loss is not finite are left out, with their partner, and counted as
    `nonfinite_candidates` in the logs. When no pair has two finite losses, training stops with
    a `ValueError` and the weights stay as they were.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule` or a callable;
            the size of a step of Adam, in the unit of `sigma`. The step of a schedule is one
            update. With `None` it is `max(r / sqrt(1 + t / 50), 0.005)` at the t-th step, where r
            is a third of the root mean square of the kernels before the first step, from 0.02 to
            0.1, unless a callback assigns one. Defaults to `None`.
        population_size: Even integer of at least 4, the candidates for each update.
            Defaults to `256`.
        sigma: Positive float, the distance of the candidates from the current weights in each
            weight, in units of the weight or, where a prior has a standard deviation above 1 or
            below 0.01, of that. With `None` it is 0.1, and follows the search where the loss is
            exact. Defaults to `None`.
        priors: Dict from patterns to sampling distributions of `keras_extras.optimizers.priors`.
            A pattern is matched as in `fnmatch` with `variable.path` or with its end, and the
            first that matches counts: `{"*/alpha": HalfNormal(1.0)}`. A prior sets where the
            search starts, with `num_prior_samples`, and the unit of variables of another order of
            magnitude than 1. It adds nothing to the loss. Defaults to `None`.
        transforms: Dict from patterns to functions of `keras_extras.optimizers.transforms`, or
            any function of a tensor that keeps its shape: the search moves free coordinates and
            the model only sees their transform. Keras constraints of a variable are applied to
            every candidate as well. Defaults to `None`.
        update_probability: Float in (0, 1], the chance of each weight to be changed in a
            candidate. Defaults to `1.0`.
        generations_per_batch: Integer, how many updates to make on each batch.
            Defaults to `1`.
        num_prior_samples: Integer, how many candidates to draw from the priors on the first batch;
            the search starts from the best of them, or from the given weights if those are
            better. Defaults to `0`.
        noise: The distribution of the directions e: `"orthogonal"`, random signs with directions
            at right angles to each other; `"sign"`, independent random signs; `"normal"`;
            `"low_rank"`, for each kernel a column times a row of random signs, which is fastest
            for wide `Dense`, `Conv2D` and `Conv3D` layers. Defaults to `"orthogonal"`.
        sigma_decay_power: Float in [0, 1), the power with which the distance falls: it is
            `sigma / (1 + updates) ** sigma_decay_power`. 1/6 is the best of Fabian (1967) for
            smooth losses; 0 suits losses that jump. Defaults to `0.16`.
        beta_1: Float in [0, 1), the decay of the first moment of Adam. Defaults to `0.9`.
        beta_2: Float in [0, 1), the decay of the second moment of Adam. Defaults to `0.999`.
        epsilon: Positive float that keeps the step finite. Defaults to `1e-8`.
        curvature: What to measure for `confidence_intervals`, by a few more candidates in each
            update: `"full"`, the Hessian of all weights; `"diagonal"`, only its diagonal;
            `"auto"`, full for up to 100 weights, diagonal for up to 10,000, and for more
            nothing; `None`, nothing. Defaults to `"auto"`.
        keep: Which weights the model gets. `"average"`: an average over where the search was, in
            which the last tenth of all updates counts most; where the search is, if the loss is
            exact; and the best candidate so far, if it is tied. `"current"`: where the search is
            now, as with other optimizers. `"best"`: the best candidate so far, compared on the
            batch that it was found on; for full batches, and losses that jump.
            Defaults to `"average"`.
        chunk_size: Integer, how many candidates to draw and evaluate at once; `None` for all;
            `"auto"` for as many as take about 16 MB, or 16 if that are more; on an accelerator
            with JAX, a quarter of its memory. Memory grows with it, and small chunks stay in the
            processor's cache. Defaults to `"auto"`.
        shard: What devices share out under `keras.distribution.DataParallel`, on JAX: `"batch"`,
            each evaluates all candidates on its share of the rows, or `"population"`, each
            evaluates its share of the candidates on all rows. Defaults to `"batch"`.
        vectorize: How to evaluate candidates: `True`, all of a chunk in one vectorized call;
            `False`, one after another; `"auto"`, vectorized where the loss allows it. Losses that
            select rows by predictions (`y[y_pred > 0]`, `tf.boolean_mask`, `tf.unique`) and losses
            in NumPy (`tf.numpy_function`, or with `run_eagerly=True`) do not. Defaults to
            `"auto"`.
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
    optimizer = keras_extras.optimizers.MonteCarloOptimizer(population_size=32)
    model.compile(optimizer, loss=wrong_decisions)
    model.fit(x, y, batch_size=256, epochs=10, verbose=0)
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
        - Knyazev, 2001, "Toward the optimal preconditioned eigensolver: locally optimal block
          preconditioned conjugate gradient method", SIAM Journal on Scientific Computing 23(2)
        - Rechenberg, 1973, "Evolutionsstrategie", for the width where losses tie
        - [KernelML](https://github.com/Freedomtowin/kernelml)
    """

    def __init__(
        self,
        learning_rate: Any = None,
        population_size: int = 256,
        sigma: float | None = None,
        priors: Mapping[str, Prior] | None = None,
        transforms: Mapping[str, Callable[[Any], Any]] | None = None,
        update_probability: float = 1.0,
        generations_per_batch: int = 1,
        num_prior_samples: int = 0,
        noise: str = "orthogonal",
        sigma_decay_power: float = 0.16,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        curvature: str | None = "auto",
        keep: str = "average",
        chunk_size: int | str | None = "auto",
        shard: str = "batch",
        vectorize: bool | str = "auto",
        seed: int | None = None,
        name: str = "monte_carlo",
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate=learning_rate,
            sigma=sigma,
            sigma_decay_power=sigma_decay_power,
            update_probability=update_probability,
            noise=noise,
            beta_1=beta_1,
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
        if isinstance(population_size, Integral) and population_size == 2:
            raise ValueError(
                "`population_size` must be at least 4. A single pair of candidates is what "
                "`keras_extras.optimizers.SPSA` evaluates, with smaller `learning_rate` and "
                "`sigma`. Received: population_size=2"
            )
        self.population_size = check_integer("population_size", population_size, minimum=4)
        if self.population_size % 2:
            raise ValueError(
                "`population_size` must be even, because candidates come in pairs on either side "
                f"of the current weights. Received: population_size={population_size}"
            )
        self.shard = check_choice("shard", shard, ("batch", "population"))
        if shard == "population" and keras.backend.backend() != "jax":
            raise ValueError(
                "`shard='population'` stands on `keras.distribution` and needs Keras' JAX backend; "
                "strategies of `tf.distribute` share out the batch. "
                f"Received: backend={keras.backend.backend()!r}"
            )
        self.curvature = check_choice("curvature", curvature, ("auto", "full", "diagonal", None))
        self._rows = sized(self.add_variable((), name=TRAINING_SET_SIZE))
        learn_training_set_size()

    def build_search(self, coordinates: Sequence[keras.Variable]) -> None:
        super().build_search(coordinates)
        self._plane = None
        if self._can_compare():
            self._plane = PlaneSearch(self, self.parameters, self._momentums, self._velocities)
        size = sum(math.prod(shape) for shape in self._shapes)
        kind = self.curvature
        if kind == "auto":
            kind = "full" if size <= _FULL_CURVATURE else "diagonal"
            kind = kind if size <= _DIAGONAL_CURVATURE else None
        self._curvature = kind and Curvature(self, self.parameters, full=kind == "full")

    def _can_compare(self):
        """Whether to find step sizes by trial where the loss allows it."""
        is_ours = self.has_own_rate and self.has_own_sigma and self.noise != "low_rank"
        changes = (self.weight_decay, self.clipnorm, self.clipvalue, self.global_clipnorm)
        is_plain = not self.use_ema and all(change is None for change in changes)
        least = chunk_for_devices(1, self.population_size) if self.shard == "population" else 1
        return is_ours and is_plain and self.population_size >= max(LEAST_POPULATION, 8 * least)

    def search(self, loss_of: Callable, variables: Sequence[keras.Variable]) -> None:
        super().search(loss_of, variables)
        if self._curvature is not None:
            self._curvature.measure(
                lambda kept: ops.cast(
                    loss_of([p.to_values(u) for p, u in zip(self.parameters, kept)]), "float32"
                ),
                self._width() / 2,
                self._curvatures_per_update,
                self.candidate_map,
            )

    @property
    def _curvatures_per_update(self):
        return max(1, self.population_size // _CANDIDATES_PER_CURVATURE)

    def placed_batch(self, data: Any) -> Any:
        return on_all_devices(data) if self.shard == "population" else data

    def generation(self, loss_at: Callable) -> tuple[list[Any], Any]:
        pairs, width = self.population_size // 2, self._width()
        draw = self._directions(pairs)
        chunk = self.chunk_of(loss_at, self._shapes, pairs, members=2)
        is_spread_out = self.shard == "population"
        if self._plane is not None:
            chunk = min(chunk, pairs // 4)
        if is_spread_out:
            chunk = chunk_for_devices(chunk, self.population_size)

        def evaluate(steps, is_candidate, is_pair):
            losses = evaluate_population(
                lambda step: loss_beside(loss_at, self.parameters, step),
                shared_out(steps) if is_spread_out else steps,
                None,
                self.candidate_map,
            )
            self.count_nonfinite(losses, ops.tile(is_pair, [2]))
            return ops.where(is_candidate, losses, float("nan"))

        plane = self._plane
        if plane is not None:
            plane.begin(pairs, chunk)
            width = plane.width_or(width)
        wants_best = self.keep == "best" or plane is not None
        found = evaluate_pairs(
            evaluate, draw, self.parameters, width, pairs, chunk, wants_best, plane
        )
        spread = 2 * width * self.update_probability * ops.maximum(found.usable, 1.0)
        failed = ops.equal(found.usable, 0)
        is_flat = ops.all(ops.stack([ops.all(total == 0.0) for total in found.sums]))
        self.count_ties(ops.logical_and(is_flat, ~failed), found.best_loss)
        centers = [ops.cast(p.coordinates, "float32") for p in self.parameters]
        best = [center + step for center, step in zip(centers, found.best)]

        def gradients():
            return [total / spread for total in found.sums]

        if plane is None:
            self._descend_unless(failed, gradients)
            return best, found.best_loss

        self._failed.assign(failed)
        given = ~ops.copy(self._is_rate_own)
        verdict = plane.judge(found.losses, found.best_loss, failed, given)
        if self.keep == "average":
            plane.keep(verdict, found.best)

        def step():
            self.begin_adam(verdict.begins_adam)
            self.descend(gradients(), [p.coordinates for p in self.parameters])

        def move():
            plane.move(verdict, found.losses, gradients(), found.best)
            self.iterations.assign_add(1)

        cond(failed, lambda: None, lambda: cond(verdict.takes_adam, step, move))
        return best, found.best_loss

    def own_rate(self) -> Any:
        rate = super().own_rate()
        return rate if self._plane is None else self._plane.rate_or(rate)

    def average_share(self, share: Any) -> Any:
        return share if self._plane is None else self._plane.average_share(share)

    def search_state(self) -> dict[str, float]:
        state = super().search_state()
        if self.built and self._plane is not None and self._plane.mode != "noisy":
            state["width"] = float(self._plane.width.numpy()) * self.update_probability**0.5
        return state

    def __repr__(self) -> str:
        if not self.built or self._plane is None:
            return super().__repr__()
        return f"{super().__repr__()[:-1]}, loss {self._plane.mode}>"

    def confidence_intervals(
        self,
        level: float = 0.9,
        likelihood: str | None = None,
        training_set_size: int | None = None,
    ) -> dict[str, Interval]:
        r"""Intervals of the weights, from a quadratic fitted to the loss around them.

        With H the Hessian of the loss L, the mean over n rows, at the weights w, the interval of
        weight i is

        ```
        w_i -+ z sqrt(inverse(H)_ii / n)                 negative_log_likelihood
        w_i -+ t sqrt(2 L inverse(H)_ii / (n - d))       mean_squared_error, None
        ```

        z being a quantile of the normal distribution, t one of Student's with n - d degrees of
        freedom, and d the number of weights: the intervals of Wald and, for linear models, those
        of least squares. They hold for independent rows, at the minimum, without regularization.

        For other losses, `likelihood=None`, the second formula takes the loss for a measure of
        noise. Such intervals are weak, like those of KernelML: they show which weights the loss
        holds tighter than others, and promise nothing about covering a true value.

        The curvature is of the last batches, around the weights that were kept; so train with
        large batches and until the loss falls no more. With `curvature="diagonal"` each interval
        takes the other weights for known, and is too narrow where weights can stand in for each
        other. Where there is a transform, the search's coordinates stand for w, and the ends are
        transformed; transforms of several entries together, such as `Simplex`, leave them
        infinite, and so do such constraints, e.g. `UnitNorm`.

        Args:
            level: Float between 0 and 1. Defaults to `0.9`.
            likelihood: What the loss says about the data: `"negative_log_likelihood"`, the mean
                of it over the rows, such as cross-entropy; `"mean_squared_error"`, of one output
                with normal noise of unknown variance; or `None`, nothing. Defaults to `None`.
            training_set_size: Integer, the rows n; `None` for those of the last `fit`.
                Defaults to `None`.

        Returns:
            Dict from variable path to an `Interval(lower, center, upper)` of arrays of the
            variable's shape, the center being the current weights. The ends are infinite for
            weights that the loss does not hold.

        Raises:
            ValueError: If the curvature is not measured, or not to the end.
        """
        if not 0 < check_number("level", level) < 1:
            raise ValueError(f"`level` must be between 0 and 1. Received: level={level}")
        check_choice("likelihood", likelihood, LIKELIHOODS)
        if not self.built or self._curvature is None:
            raise ValueError(
                "There is no curvature to make confidence intervals of: it is measured in "
                f"training, by default for up to {_DIAGONAL_CURVATURE:,} weights. "
                "Train first, with `curvature='diagonal'`, or "
                "'full' for few weights; freeze layers that need no intervals. "
                f"Received: curvature={self.curvature!r}"
            )
        if self._curvature.missing:
            raise ValueError(
                f"{self._curvature.missing:,} curvatures are still to be measured, "
                f"{self._curvatures_per_update} in each update. Train longer"
            )
        if training_set_size is not None:
            rows = float(check_integer("training_set_size", training_set_size))
        else:
            require_known_size(self._rows, "Confidence intervals")
            rows = float(self._rows.numpy())
        return intervals_of(self._curvature, level, likelihood, rows)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "population_size": self.population_size,
            "curvature": self.curvature,
            "shard": self.shard,
        }
