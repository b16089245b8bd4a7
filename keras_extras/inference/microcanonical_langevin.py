"""MicrocanonicalLangevin: chains of constant speed without an accept step, as a kernel of TFP.

Dynamics and tuning are functions of plain operations. The class brings them into the form that
`tfp.mcmc.sample_chain` and the schedule of `MarkovChains` take.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_extras._core.precision import widest_float
from keras_extras._core.probability import tfd, tfp

# The second-order integrator of McLachlan with the least error, of two gradients a step.
_OUTER_KICK = 0.1931833275037836
# Step sizes are averages over the last third of all steps, at most over so many.
_LONGEST_MEMORY = 200.0
# Steps whose error is far from the target count less, as in the paper.
_TRUST = 1.5
# A step size grows at most by this factor at a time.
_LARGEST_GROWTH = 10.0
# After a diverged step.
_SHRINKAGE = 0.8
# Errors of the energy above this are divergences, the same bound as in NUTS.
_LARGEST_ERROR = 1000.0


class StepSizeAverage(NamedTuple):
    """The adaptation of the step size.

    Attributes:
        errors: Scalar, the weighted sum of squared errors, in units of the target and of the sixth
            power of the step size.
        weights: Scalar, the sum of the weights.
        largest: Scalar, the largest step size that is left after divergences.
        count: Scalar, the number of steps.
    """

    errors: Any = 0.0
    weights: Any = 0.0
    largest: Any = np.inf
    count: Any = 0.0


class MicrocanonicalResults(NamedTuple):
    """The state of chains beside their positions, and the statistics of the last transition.

    Attributes:
        target_log_prob: Tensor of shape `(chains,)`.
        gradient: Tensor of shape `(chains, size)`.
        momentum: Tensor of that shape, unit vectors; zeros before the first transition.
        energy_variance: Tensor of shape `(chains,)`, the mean over steps of the squared error of
            the energy, divided by `size`.
        diverging: Boolean tensor of that shape, whether a step was taken back.
        new_step_size: Scalar tensor.
        num_adaptation_steps: Scalar tensor, how many more transitions the step size adapts in.
        average: A `StepSizeAverage`.
    """

    target_log_prob: Any
    gradient: Any
    momentum: Any
    energy_variance: Any
    diverging: Any
    new_step_size: Any
    num_adaptation_steps: Any
    average: StepSizeAverage


class MicrocanonicalLangevin:
    """Microcanonical Langevin Monte Carlo (Robnik et al., 2022, arXiv:2212.08549).

    ```
    dz = u dt
    du = (I - u u^T) (grad log p(z) / (d - 1) dt + noise)
    ```

    with momenta `u` of length 1. The noise changes their direction within a length
    `L = sqrt(d)`, the root of the trace of the covariance if positions are in units of their
    standard deviations. There is no accept step: the error of the integrator is a bias, which the
    variance of the energy's error per dimension bounds (Robnik and Seljak, 2024,
    arXiv:2412.08876). The step size adapts to a variance that is given.

    Args:
        target_log_prob_fn: Function from positions of shape `(chains, size)` to log densities.
        step_size: Float, that of the first transition.
        num_adaptation_steps: Integer, how many transitions the step size adapts in.
        num_steps: Integer, steps of the integrator in a transition.
        target_energy_variance: Float, the variance of the energy's error per dimension.
    """

    # It is not, but `sample_chain` would warn at every trace, whatever the bias is.
    is_calibrated = True

    def __init__(
        self,
        target_log_prob_fn: Callable[[Any], Any],
        step_size: Any,
        num_adaptation_steps: Any,
        num_steps: int,
        target_energy_variance: float,
    ):
        self._value_and_gradient = lambda z: tfp.math.value_and_gradient(target_log_prob_fn, z)
        self._step_size = step_size
        self._num_adaptation_steps = num_adaptation_steps
        self._num_steps = num_steps
        self._target_energy_variance = target_energy_variance

    def bootstrap_results(self, z: Any) -> MicrocanonicalResults:
        """Returns the results of no transition."""
        log_prob, gradient = self._value_and_gradient(z)
        return MicrocanonicalResults(
            target_log_prob=log_prob,
            gradient=gradient,
            momentum=ops.zeros_like(z),
            energy_variance=ops.zeros_like(log_prob),
            diverging=ops.zeros_like(log_prob, "bool"),
            new_step_size=ops.convert_to_tensor(self._step_size, z.dtype),
            num_adaptation_steps=ops.convert_to_tensor(self._num_adaptation_steps, "int32"),
            average=StepSizeAverage(
                *(ops.convert_to_tensor(v, widest_float()) for v in StepSizeAverage())
            ),
        )

    def one_step(
        self, z: Any, results: MicrocanonicalResults, seed: Any = None
    ) -> tuple[Any, MicrocanonicalResults]:
        """Returns positions and results after a transition."""
        results = results._replace(
            energy_variance=ops.zeros_like(results.energy_variance),
            diverging=ops.zeros_like(results.diverging),
        )
        step_seeds = ops.stack(tfp.random.split_seed(seed, self._num_steps))
        z, results = ops.fori_loop(
            0,
            self._num_steps,
            lambda number, state: self._step(step_seeds[number], *state),
            (z, results),
        )
        left = ops.maximum(results.num_adaptation_steps - 1, 0)
        return z, results._replace(num_adaptation_steps=left)

    def _step(self, seed, z, results):
        size, step_size = z.shape[-1], results.new_step_size
        noise = tfd.Normal(ops.zeros_like(z), 1.0).sample(seed=seed)
        momentum = refresh(results.momentum, noise, step_size)
        end, log_prob, gradient, turned, kinetic = integrate(
            self._value_and_gradient, z, results.gradient, momentum, step_size
        )
        error = kinetic - (log_prob - results.target_log_prob)
        is_good = ops.abs(error) < _LARGEST_ERROR  # False for NaN.
        is_good &= ops.all(ops.isfinite(gradient), axis=-1)
        variance = ops.where(is_good, ops.square(error) / size, 0.0)
        new_size, average = adapt(
            step_size, variance / self._target_energy_variance, is_good, results.average
        )
        adapts = results.num_adaptation_steps > 0
        column = is_good[:, None]
        return ops.where(column, end, z), results._replace(
            target_log_prob=ops.where(is_good, log_prob, results.target_log_prob),
            gradient=ops.where(column, gradient, results.gradient),
            # From where it cannot go on, it goes in a direction that is drawn.
            momentum=ops.where(column, turned, 0.0),
            energy_variance=results.energy_variance + variance / self._num_steps,
            diverging=results.diverging | ~is_good,
            new_step_size=ops.where(adapts, new_size, step_size),
            average=keras.tree.map_structure(
                lambda new, old: ops.where(adapts, new, old), average, results.average
            ),
        )


def refresh(momentum: Any, noise: Any, step_size: Any) -> Any:
    """Returns unit vectors that have lost as much of their direction as in a step.

    Args:
        momentum: Tensor of shape `(chains, size)`, unit vectors; zeros for new directions.
        noise: Tensor of that shape, standard normal.
        step_size: Scalar tensor.
    """
    size = momentum.shape[-1]
    exponent = ops.minimum(2.0 * step_size / size**0.5, 50.0)
    return _unit(momentum + ops.sqrt(ops.expm1(exponent) / size) * noise)


def integrate(
    value_and_gradient: Callable[[Any], tuple[Any, Any]],
    z: Any,
    gradient: Any,
    momentum: Any,
    step_size: Any,
) -> tuple[Any, Any, Any, Any, Any]:
    """Returns position, log density, its gradient, momentum and the change of kinetic energy.

    Args:
        value_and_gradient: Function from positions to log densities and gradients.
        z: Tensor of shape `(chains, size)`.
        gradient: Tensor of that shape, the gradient of the log density there.
        momentum: Tensor of that shape, unit vectors.
        step_size: Scalar tensor.
    """

    def half(number, state):
        z, _, gradient, momentum, kinetic = state
        share = ops.where(number == 0, _OUTER_KICK, 1.0 - 2.0 * _OUTER_KICK)
        momentum, change = _kick(momentum, gradient, ops.cast(share, z.dtype) * step_size)
        z += 0.5 * step_size * momentum
        return z, *value_and_gradient(z), momentum, kinetic + change

    # In a loop, as compilation takes half as long with a single gradient.
    zeros = ops.zeros_like(z[:, 0])
    z, log_prob, gradient, momentum, kinetic = ops.fori_loop(
        0, 2, half, (z, zeros, gradient, momentum, zeros)
    )
    momentum, change = _kick(momentum, gradient, _OUTER_KICK * step_size)
    return z, log_prob, gradient, momentum, kinetic + change


def _kick(momentum, gradient, step_size):
    """The exact flow of the momentum where the gradient is constant, and its kinetic energy."""
    num_others = momentum.shape[-1] - 1
    norm = ops.maximum(ops.norm(gradient, axis=-1, keepdims=True), 1e-30)
    direction = gradient / norm
    along = ops.sum(momentum * direction, axis=-1, keepdims=True)
    turn = step_size * norm / num_others
    decay = ops.exp(-turn)
    gain = (1.0 - decay) * (1.0 + decay + along * (1.0 - decay))
    turned = _unit(direction * gain + 2.0 * decay * momentum)
    change = turn + ops.log(0.5 * (1.0 + along + (1.0 - along) * decay**2))
    return turned, num_others * change[:, 0]


def _unit(vectors):
    return vectors / ops.norm(vectors, axis=-1, keepdims=True)


def adapt(
    step_size: Any, ratios: Any, is_good: Any, average: StepSizeAverage
) -> tuple[Any, StepSizeAverage]:
    """Returns the step size whose squared errors are those wanted, as they grow by its sixth power.

    Args:
        step_size: Scalar tensor.
        ratios: Tensor of shape `(chains,)`, squared errors of the energy over those wanted.
        is_good: Boolean tensor of that shape, which steps count.
        average: A `StepSizeAverage`.
    """
    ratios, size = ops.cast(ratios, widest_float()), ops.cast(step_size, widest_float())
    weights = ops.exp(-0.5 * ops.square(ops.log(ratios + 1e-8) / (6.0 * _TRUST)))
    weights *= ops.cast(is_good, widest_float())
    shrunk = ops.where(ops.all(is_good), np.inf, _SHRINKAGE * size)
    count = average.count + 1.0
    decay = 1.0 - 1.0 / ops.clip(count / 3.0, 1.0, _LONGEST_MEMORY)
    average = StepSizeAverage(
        errors=decay * average.errors + ops.mean(weights * ratios) / size**6,
        weights=decay * average.weights + ops.mean(weights),
        largest=ops.minimum(average.largest, shrunk),
        count=count,
    )
    # Where no step was good, there is nothing to average.
    tiny = float(np.finfo(widest_float()).tiny)
    best = (ops.maximum(average.weights, tiny) / ops.maximum(average.errors, tiny)) ** (1 / 6)
    best = ops.minimum(ops.where(average.weights > 0.0, best, size), _LARGEST_GROWTH * size)
    return ops.cast(ops.minimum(best, average.largest), step_size.dtype), average
