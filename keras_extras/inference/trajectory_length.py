"""The length of HMC's trajectories, learned by the gradient of squared jumps."""

from typing import Any

from keras import ops

from keras_extras._core.probability import tfp

# Trajectories have lengths between 0.4 of the learned one and all of it, so that no frequency of
# the posterior stays in phase with them.
_JITTER = 0.6
# How much jumps of positions count beside those of squared distances. Of 1, 1.5, 2 and 4 this came
# nearest to the best of a grid (`benchmarks/hmc_trajectories.py`).
_WEIGHT_OF_POSITIONS = 2.0
# Where trajectories start, in steps.
FIRST_STEPS = 10


def learned_trajectories(inner: Any, num_adaptation_steps: Any) -> Any:
    """Returns a kernel of HMC that learns the length of its trajectories.

    Args:
        inner: `tfp.mcmc.HamiltonianMonteCarlo`.
        num_adaptation_steps: Integer, how many transitions it learns in.
    """
    return tfp.experimental.mcmc.GradientBasedTrajectoryLengthAdaptation(
        inner, num_adaptation_steps, criterion_fn=squared_jumps, jitter_amount=_JITTER
    )


def starting_at(results: Any, length: Any) -> Any:
    """Returns results of no transition, with trajectories of a given length."""
    inner = results.inner_results
    length = ops.cast(length, inner.max_trajectory_length.dtype)
    inner = inner._replace(max_trajectory_length=length, averaged_max_trajectory_length=length)
    return results._replace(inner_results=inner)


def squared_jumps(
    previous_state: Any, proposed_state: Any, accept_prob: Any, trajectory_length: Any, **_: Any
) -> Any:
    """Returns for each chain the squared jumps in a unit of length.

    ```
    (1 / length) [ (s' - s)^2 / (2 var s) + 2 |z' - z|^2 / (2 E s) ],    s = |z - m|^2
    ```

    where a trajectory goes from `z` to `z'`, and `m` is the mean over all chains. Means of the two
    fractions are 1 minus the correlation of successive `s`, and of successive `z`. The first is
    the ChEES criterion (Hoffman, Radul and Sountsov, 2021, "An adaptive-MCMC scheme for setting
    trajectory lengths in Hamiltonian Monte Carlo"), whose maximum alone has trajectories too short
    for the draws of means, or several lengths that are in phase with the posterior.

    Args:
        previous_state: Tensor of shape `(chains, size)`.
        proposed_state: Tensor of that shape.
        accept_prob: Tensor of shape `(chains,)`.
        trajectory_length: Tensor of shape `(chains,)`.
    """
    shares = accept_prob / (ops.sum(accept_prob) + 1e-20)
    end_mean = ops.sum(shares[:, None] * _finite(proposed_state), axis=0)
    mean = ops.stop_gradient(0.5 * (ops.mean(previous_state, axis=0) + end_mean))
    start, end = (ops.sum(ops.square(z - mean), axis=-1) for z in (previous_state, proposed_state))
    # Proposals count by their acceptance probability, since rejected ones are not draws.
    weights = ops.concatenate([ops.ones_like(shares), ops.cast(accept_prob, start.dtype)])
    weights = weights / ops.sum(weights)
    both = ops.stop_gradient(_finite(ops.concatenate([start, end])))
    spread = ops.sum(weights * both)
    variance = ops.sum(weights * ops.square(both - spread))
    jumps = ops.square(end - start) / (2.0 * variance + 1e-20)
    moves = ops.sum(ops.square(proposed_state - previous_state), axis=-1) / (2.0 * spread + 1e-20)
    return (jumps + _WEIGHT_OF_POSITIONS * moves) / trajectory_length


def _finite(values):
    return ops.where(ops.isfinite(values), values, 0.0)
