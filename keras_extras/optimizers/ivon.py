"""IVON: improved variational online Newton, an optimizer that learns a normal posterior."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import (
    check_built_for,
    check_decay,
    check_integer,
    check_number,
    check_seed,
    check_unconstrained,
)
from keras_extras._core.differentiation import value_and_gradients
from keras_extras._core.registration import serializable
from keras_extras._core.stateless import cond
from keras_extras._core.training_set_size import (
    NAME,
    learn_training_set_size,
    require_known_size,
    sized,
)
from keras_extras._seams.optimizer_variables import index_of, trained_variables
from keras_extras.optimizers.loss_evaluating import LossEvaluatingOptimizer, evaluated_at
from keras_extras.optimizers.normal_numbers import add_table, normal_numbers
from keras_extras.optimizers.replicas import is_shared_out, mean_over_replicas


@serializable
class IVON(LossEvaluatingOptimizer):
    """Learns a normal posterior of the weights in stock `fit`.

    The weights of the model are the means `m` of independent normal posteriors with precisions
    `n (h + d)`, for `n` rows, `d` the weight decay and `h` an estimate of the diagonal of the
    Hessian of the mean loss. In each step the gradient `g` is that of weights which are drawn:

    ```
    e = z / sqrt(n (h + d)),  g = gradient at m + e,  f = n (h + d) e g
    h <- h + (1 - beta_2) (f - h) + (1 - beta_2)^2 (f - h)^2 / (2 (h + d))
    v <- beta_1 v + (1 - beta_1) g
    m <- m - learning_rate (h_0 + d) (v / (1 - beta_1^t) + d m) / (h + d)
    ```

    with `z` standard normal, `h_0` the initial `h`, and the loss of a batch a mean negative
    log-likelihood. The last term of `h` keeps `h + d` positive. It minimizes the divergence of the
    posterior, so that `1 / (n d)` is the variance of the prior of each weight. In the first step
    learning rates are those of SGD, later those of Newton's method times `h_0 + d`.

    Between steps the model has the means. Loss and metrics in the logs of training are those of
    the weights that were drawn. `inference.Posterior.from_optimizer(model)` predicts with draws.
    Under `mixed_float16` small gradients are lost, because the loss is not scaled; take
    `mixed_bfloat16`.

    References:
        Shen et al. (2024), "Variational learning is effective for large deep networks",
        [arXiv:2402.17641](https://arxiv.org/abs/2402.17641), algorithm 1.

    Args:
        learning_rate: Float or `keras.optimizers.schedules.LearningRateSchedule`. Defaults to
            `0.1`.
        ess: Float, the effective sample size `n`, or `"auto"`, which infers the number of rows in
            `fit`. A larger number narrows the posterior. Defaults to `"auto"`.
        hess_init: Float, the initial `h`. Large values make draws lie close to the means at the
            start. Defaults to `1.0`.
        beta_1: Float in [0, 1), the decay of the mean of gradients. Defaults to `0.9`.
        beta_2: Float in [0, 1), the decay of `h`. Training needs some multiples of
            `1 / (1 - beta_2)` steps until `h` is known. Defaults to `0.99999`.
        weight_decay: Float, the weight decay `d`. Defaults to `1e-4`.
        num_samples: Integer, the draws in each step, whose gradients are averaged.
            Defaults to `1`.
        clip_radius: Float, the largest absolute value of what is multiplied by the learning rate;
            `None` for no limit. Defaults to `None`.
        seed: Integer seed of the draws. Defaults to `None`.
        name: String, name of the optimizer. Defaults to `"ivon"`.
        **kwargs: Of `keras.optimizers.Optimizer`, such as `clipnorm`, which clips `g` in `v`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range or a variable has a constraint; in training, if
            `ess="auto"` and the number of rows is unknown, or a loss is NaN or infinite, which
            leaves the weights as they were.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import inference, layers, optimizers

    model = keras.Sequential([
        keras.Input((1,)),
        keras.layers.Dense(2),
        layers.IndependentNormal(1),
    ])
    model.compile(optimizers.IVON(0.1, beta_2=0.99), loss=lambda y, rv_y: -rv_y.log_prob(y))
    x = np.linspace(-1.0, 1.0, 64)[:, None]
    model.fit(x, 2.0 * x, epochs=20, verbose=0)
    posterior = inference.Posterior.from_optimizer(model, num_draws=50)
    posterior.predict_distribution(x).epistemic_variance()
    ```
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        ess: float | str = "auto",
        hess_init: float = 1.0,
        beta_1: float = 0.9,
        beta_2: float = 0.99999,
        weight_decay: float = 1e-4,
        num_samples: int = 1,
        clip_radius: float | None = None,
        seed: int | None = None,
        name: str = "ivon",
        **kwargs: Any,
    ):
        weight_decay = check_number("weight_decay", weight_decay, above=0.0)
        super().__init__(learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        if isinstance(ess, str):
            if ess != "auto":
                raise ValueError(f"`ess` must be a number or 'auto'. Received: ess={ess!r}")
            learn_training_set_size()
            self.ess: float | str = ess
            self._size = sized(self.add_variable((), "zeros", "float32", name=NAME))
        else:
            self.ess = check_number("ess", ess, above=0.0)
            self._size = None
        self.hess_init = check_number("hess_init", hess_init, above=0.0)
        self.beta_1 = check_decay("beta_1", beta_1)
        self.beta_2 = check_decay("beta_2", beta_2)
        self.num_samples = check_integer("num_samples", num_samples)
        self.clip_radius = None
        if clip_radius is not None:
            self.clip_radius = check_number("clip_radius", clip_radius, above=0.0)
        self.seed = check_seed(seed)
        self._seed_generator = keras.random.SeedGenerator(self.seed)
        self._seed_state = self._seed_generator.state  # tracked: saved with the optimizer

    def build(self, variables: Sequence[keras.Variable]) -> None:
        # For none it is built by Keras' loader of `.h5`, before the weights are known.
        if self.built or not variables:
            return
        variables = list(variables)
        check_unconstrained(
            variables,
            f"{type(self).__name__} draws weights from normal distributions, which cannot keep "
            "a constraint; leave it out, or compute the weight from a free one, as in "
            "`keras.ops.softplus(w)`.",
        )
        # Its own step has the decay, and Keras is not to add another.
        super().exclude_from_weight_decay(var_list=variables)
        super().build(variables)
        self._momentums = self._add_state(variables, "momentum", 0.0)
        # `h + weight_decay`, the precisions of the posterior by the effective sample size.
        initial_precision = self.hess_init + self.weight_decay
        self._precisions = self._add_state(variables, "precision", initial_precision)
        sizes = [math.prod(v.shape) for v in variables]
        self._table = add_table(self, sizes, self._seed_generator)

    def _add_state(self, variables, name, value):
        """Adds variables like these, in at least single precision, which `beta_2` needs."""
        return [
            self.add_variable(
                tuple(variable.shape),
                keras.initializers.Constant(value),
                keras.backend.result_type(variable.dtype, "float32"),
                name=f"{variable.name}_{name}",
            )
            for variable in variables
        ]

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Always raises: without decay a weight would have no prior."""
        raise ValueError(
            f"{type(self).__name__} has a prior, by `weight_decay`, for all weights. Received: "
            f"var_list={var_list!r}, var_names={var_names!r}"
        )

    def search(self, loss_of: Callable, variables: Sequence[keras.Variable]) -> None:
        self._step(lambda values: (loss_of(values), ()), variables)

    def take_step(
        self,
        loss_fn: Callable[[], tuple[Any, Any]],
        variables: Sequence[keras.Variable],
        batch_size: Any,
    ) -> tuple[Any, Any]:
        # The pass that the gradient is of serves for the logs; that of replicas cannot leave them.
        if is_shared_out():
            return super().take_step(loss_fn, variables, batch_size)
        if not self.built:
            self.build(variables)
        result = self._step(
            lambda values: evaluated_at(values, variables, loss_fn), list(variables)
        )
        self.note_failure()
        return result

    def _step(self, evaluate, variables):
        """Moves along the gradient at weights that are drawn.

        Returns:
            The mean loss of the draws, and what `evaluate` returned with the last loss.
        """
        check_built_for(self.name, variables, trained_variables(self))
        size = self._known_size()
        drawn = [self._draw(evaluate, variables, size) for _ in range(self.num_samples)]
        losses, gradients, slopes, outputs = zip(*drawn)
        loss = _mean(losses)
        gradients, slopes = ([_mean(parts) for parts in zip(*g)] for g in (gradients, slopes))
        sums = [ops.sum(gradient) for gradient in gradients if gradient is not None]
        is_finite = functools.reduce(ops.logical_and, map(ops.isfinite, [loss, *sums]))
        self._failed.assign(ops.logical_not(is_finite))

        def move():
            for precision, slope in zip(self._precisions, slopes):
                if slope is not None:
                    self._renew(precision, slope, size)
            self.descend(gradients, variables)

        cond(is_finite, move, lambda: None)
        return loss, outputs[-1]

    def _draw(self, evaluate, variables, size):
        """Returns loss, gradients, their products with the noise, and outputs, of one draw."""
        noise = [
            ops.cast(z, p.dtype) * ops.rsqrt(ops.cast(size, p.dtype) * p)
            for z, p in zip(self._normal_numbers(), self._precisions)
        ]
        values = [v + ops.cast(e, v.dtype) for v, e in zip(variables, noise)]
        (loss, outputs), gradients = mean_over_replicas(
            functools.partial(value_and_gradients, evaluate, has_aux=True), values
        )
        gradients = [None if g is None else ops.cast(g, e.dtype) for g, e in zip(gradients, noise)]
        slopes = [None if g is None else g * e for g, e in zip(gradients, noise)]
        return loss, gradients, slopes, outputs

    def _normal_numbers(self):
        shapes = [tuple(precision.shape) for precision in self._precisions]
        return normal_numbers(shapes, self._table, self._seed_generator)

    def _renew(self, precision, slope, size):
        """Moves `h + d` towards `n (h + d) slope + d`; it stays above the half of what it was."""
        rate = 1.0 - self.beta_2
        size = ops.cast(size, precision.dtype)
        change = (rate * size) * slope + (rate * self.weight_decay / precision - rate)
        precision.assign(precision * (1.0 + change * (1.0 + 0.5 * change)))

    def update_step(self, gradient, variable, learning_rate) -> None:
        index = index_of(self, variable)
        momentum, precision = self._momentums[index], self._precisions[index]
        dtype = precision.dtype
        momentum.assign_add((ops.cast(gradient, dtype) - momentum) * (1.0 - self.beta_1))
        step = ops.cast(self.iterations + 1, dtype)
        bias = 1.0 - ops.power(ops.cast(self.beta_1, dtype), step)
        way = (momentum / bias + self.weight_decay * ops.cast(variable, dtype)) / precision
        if self.clip_radius is not None:
            way = ops.clip(way, -self.clip_radius, self.clip_radius)
        rate = ops.cast(learning_rate, dtype) * (self.hess_init + self.weight_decay)
        self.assign_sub(variable, ops.cast(rate * way, variable.dtype))

    def stddevs(self) -> list[np.ndarray]:
        """The standard deviations of the posterior, whose means are the weights of the model.

        Returns:
            Arrays like the weights, one for each trainable variable of the model.

        Raises:
            ValueError: If the optimizer has not trained yet, or does not know the number of rows.
        """
        if not self.built or not int(self.iterations.numpy()):
            raise ValueError(
                f"The optimizer {self.name!r} has no posterior yet: train the model in `fit` first"
            )
        size = float(ops.convert_to_numpy(self._known_size()))
        return [1.0 / np.sqrt(size * ops.convert_to_numpy(p)) for p in self._precisions]

    def before_fit(self) -> None:
        super().before_fit()
        self._known_size()  # On JAX no variable has a value while `fit` runs.

    def _known_size(self):
        if self._size is None:
            return self.ess
        require_known_size(self._size, f"The optimizer {self.name!r}")
        return self._size

    def failure(self) -> str:
        return (
            "Training stopped: on a batch just before, the loss or its gradient was NaN or "
            f"infinite at weights that {self.name} drew. That batch left the posterior as it was. "
            "Look for NaN in the inputs or targets and for a loss that overflows, or let draws lie "
            "closer to the means (a larger `hess_init` or `ess`)."
        )

    def get_config(self) -> dict[str, Any]:
        names = ["ess", "hess_init", "beta_1", "beta_2", "num_samples", "clip_radius", "seed"]
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _mean(parts):
    """The mean of a tensor of each draw, `None` where there is none."""
    if parts[0] is None or len(parts) == 1:
        return parts[0]
    return sum(parts) / len(parts)
