"""MarkovChains: chains of one density by gradients, side by side and compiled.

The kernels are those of TFP, and `MicrocanonicalLangevin`. What is here is the schedule
around them: chunks of transitions between which progress is shown, and windows of a warm-up in
which step size and scales adapt, as Stan's reference manual lays down (section "HMC algorithm
parameters").
"""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.compiled import compiled
from keras_extras._core.differentiation import value_and_gradients
from keras_extras._core.probability import seed_of, tf, tfp
from keras_extras._core.vectorized_map import vectorized_map
from keras_extras.autodiff.backend import has_loops
from keras_extras.inference.chain_backup import ChainBackup, Draws
from keras_extras.inference.microcanonical_langevin import MicrocanonicalLangevin
from keras_extras.inference.trajectory_length import (
    FIRST_STEPS,
    learned_trajectories,
    starting_at,
)

_LOGGER = logging.getLogger("keras_extras")

_CHUNK = 25  # transitions in one call of the compiled function


class MarkovChains:
    """Chains of a density of a vector.

    Args:
        log_prob_fn: Function from a tensor of shape `(size,)`, and `data`, to the logarithm of the
            density there, a scalar, which need not be normalized.
        kernel: `"nuts"`, `"hmc"` or `"mclmc"`.
        target_accept_prob: Float, the mean acceptance probability that the step size is adapted to.
        max_tree_depth: Integer, NUTS takes at most `2**max_tree_depth - 1` leapfrog steps.
        num_leapfrog_steps: Integer, the steps of HMC and of microcanonical Langevin; `"auto"` for
            trajectories of HMC whose length is learned.
        target_energy_variance: Float, what microcanonical Langevin adapts the step size to.
        jit_compile: Boolean, whether to compile by XLA.
        variables: What `log_prob_fn` reads. Defaults to none.
    """

    def __init__(
        self,
        log_prob_fn: Callable[..., Any],
        kernel: str = "nuts",
        target_accept_prob: float = 0.8,
        max_tree_depth: int = 10,
        num_leapfrog_steps: int | str = 10,
        target_energy_variance: float = 5e-4,
        jit_compile: bool = True,
        variables: Sequence[keras.Variable] = (),
    ):
        learns_length = num_leapfrog_steps == "auto"
        num_steps = FIRST_STEPS if learns_length else num_leapfrog_steps

        def make_kernel(step_size, num_adaptation_steps, scale, data, own):
            target = _side_by_side(lambda z, *own: log_prob_fn(z * scale, *data, *own), own)
            if kernel == "mclmc":
                return MicrocanonicalLangevin(
                    target,
                    step_size,
                    num_adaptation_steps,
                    num_steps,
                    target_energy_variance,
                )
            if kernel == "nuts":
                inner = tfp.mcmc.NoUTurnSampler(target, step_size, max_tree_depth=max_tree_depth)
            else:
                inner = tfp.mcmc.HamiltonianMonteCarlo(target, step_size, num_steps)
            if learns_length:
                inner = learned_trajectories(inner, num_adaptation_steps)
            return tfp.mcmc.DualAveragingStepSizeAdaptation(
                inner, num_adaptation_steps, target_accept_prob=target_accept_prob
            )

        def start(z, step_size, num_adaptation_steps, trajectory_length, scale, *data):
            results = make_kernel(step_size, num_adaptation_steps, scale, *data).bootstrap_results(
                z
            )
            return starting_at(results, trajectory_length) if learns_length else results

        def advance(z, results, scale, seed, *data):
            # The step size is among the results.
            return tfp.mcmc.sample_chain(
                _CHUNK,
                z,
                previous_kernel_results=results,
                kernel=make_kernel(0.1, results.num_adaptation_steps, scale, *data),
                trace_fn=lambda _, results: statistics(results),
                return_final_kernel_results=True,
                seed=seed_of(seed),
            )

        statistics = {
            "nuts": _nuts_stats,
            "hmc": _learned_hmc_stats if learns_length else _hmc_stats,
            "mclmc": functools.partial(_mclmc_stats, num_steps),
        }[kernel]

        def compile_all(jit_compile):
            self._jit_compile = jit_compile
            self._start = compiled(start, variables, jit_compile)
            self._advance = compiled(advance, variables, jit_compile)

        self._learns_length = learns_length
        self._compile_all = compile_all
        compile_all(jit_compile)

    def run(
        self,
        initial: np.ndarray,
        num_results: int,
        num_burnin_steps: int,
        generator: np.random.Generator,
        step_size: float | None = None,
        data: tuple = (),
        on_progress: Callable[[int], None] = lambda steps: None,
        backup: ChainBackup | None = None,
        scale: np.ndarray | None = None,
        data_of_chains: tuple = (),
        trajectory_length: float | None = None,
    ) -> Draws:
        """Runs all chains through warm-up and sampling.

        Args:
            initial: Array of shape `(chains, size)`, where they start.
            num_results: Integer, draws to keep of each chain.
            num_burnin_steps: Integer, transitions of the warm-up, rounded up to whole chunks.
            generator: Where the seeds come from.
            step_size: Float, that of the first transitions; `None` for a guess.
            data: Tensors that `log_prob_fn` is given.
            on_progress: Function called with the number of transitions done, of each chain.
            backup: Where finished chunks are kept and found; None for nowhere.
            scale: Array of shape `(size,)`, what the step size is in units of at first; `None` for
                ones.
            data_of_chains: Tensors with an entry for each chain along their first axis, which
                `log_prob_fn` is given after `data`.
            trajectory_length: Float, that of the first transitions where it is learned; `None` for
                ten steps.
        """

        def start(position, step_size, num_adaptation_steps, length, scale):
            numbers = np.float32(step_size), np.int32(num_adaptation_steps), np.float32(length)
            return self._started(position / scale, *numbers, scale, data, data_of_chains)

        def advance(z, results, scale):
            seed = generator.integers(2**31 - 1, size=2, dtype=np.int32)
            arguments = (z, results, scale, seed, data, data_of_chains)
            if backup is None:
                return self._chunk(*arguments)
            return backup.chunk(results, lambda: self._chunk(*arguments))

        scale = np.ones(initial.shape[1], "float32") if scale is None else scale
        position = np.asarray(initial, "float32")
        step_size = step_size or 0.1 * initial.shape[1] ** -0.25
        length = trajectory_length or FIRST_STEPS * step_size
        done = 0
        results = None
        for chunks, learns_scale in _windows(-(-num_burnin_steps // _CHUNK)):
            results = start(position, step_size, chunks * _CHUNK, length, scale)
            window = []
            for _ in range(chunks):
                chunk, results = advance(position / scale, results, scale)
                window.append(chunk.values * scale)
                position = window[-1][:, -1]
                done += _CHUNK
                on_progress(min(done, num_burnin_steps))
            step_size = float(results.new_step_size)
            if self._learns_length:
                length = float(results.inner_results.averaged_max_trajectory_length)
            if learns_scale:
                # Lengths of steps are in units of the scale, so the step size stays good.
                scale = _scale(np.concatenate(window, axis=1), scale)
        if results is None:
            results = start(position, step_size, 0, length, scale)
        kept = []
        for done in range(0, num_results, _CHUNK):
            chunk, results = advance(position / scale, results, scale)
            kept.append(chunk._replace(values=chunk.values * scale))
            position = kept[-1].values[:, -1]
            on_progress(num_burnin_steps + min(done + _CHUNK, num_results))
        step_size = float(results.new_step_size)
        return _joined(kept, num_results)._replace(step_size=step_size, scale=scale)

    def _started(self, *arguments):
        try:
            return self._start(*arguments)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            if not self._jit_compile:
                raise
            reason = str(error).strip().split("\n")[0]
            _LOGGER.warning("Chains are compiled without XLA, because of: %s", reason)
            self._compile_all(jit_compile=False)
            return self._start(*arguments)

    def _chunk(self, *arguments):
        output = self._advance(*arguments)
        stats = {name: ops.convert_to_numpy(values).T for name, values in output.trace.items()}
        values = np.moveaxis(ops.convert_to_numpy(output.all_states), 0, 1)
        return Draws(values, stats), output.final_kernel_results


def _side_by_side(function, own):
    """A function of one vector, and its own data, as one of many, `(chains, size)` to `(chains,)`.

    The derivative is taken within the map: XLA would compile that of a map again at every call.
    """

    if keras.backend.backend() != "tensorflow":
        return lambda z: vectorized_map(lambda element: function(*element), (z, *own))

    def value_and_gradient(vector_and_own):
        z, *own = vector_and_own
        value, (gradient,) = value_and_gradients(lambda values: function(*values, *own), [z])
        return value, gradient

    def of_all(z):
        elements = (z, *own)
        if has_loops(function, *(values[0] for values in elements)):
            # XLA has no loops that are vectorized.
            parts = [value_and_gradient(element) for element in zip(*map(ops.unstack, elements))]
            values, gradients = map(ops.stack, zip(*parts))
        else:
            values, gradients = vectorized_map(value_and_gradient, elements)
        # Zero, with the gradient. TensorFlow keeps the graphs of `tf.custom_gradient` for ever.
        zero = tf.math.multiply_no_nan(ops.stop_gradient(gradients), z - ops.stop_gradient(z))
        return ops.stop_gradient(values) + ops.sum(zero, axis=-1)

    return of_all


def _nuts_stats(results):
    inner = results.inner_results
    return {
        "lp": inner.target_log_prob,
        "diverging": inner.has_divergence,
        "acceptance_rate": ops.exp(ops.minimum(inner.log_accept_ratio, 0.0)),
        "n_steps": inner.leapfrogs_taken,
        "step_size": ops.broadcast_to(results.new_step_size, inner.has_divergence.shape),
    }


def _hmc_stats(results):
    inner = results.inner_results
    log_ratio = inner.log_accept_ratio
    return {
        "lp": inner.accepted_results.target_log_prob,
        # The same bound on the error of the energy as in NUTS.
        "diverging": ~(log_ratio > -1000.0),
        "acceptance_rate": ops.exp(ops.minimum(log_ratio, 0.0)),
        "n_steps": ops.broadcast_to(inner.accepted_results.num_leapfrog_steps, log_ratio.shape),
        "step_size": ops.broadcast_to(results.new_step_size, log_ratio.shape),
    }


def _learned_hmc_stats(results):
    inner = results.inner_results
    stats = _hmc_stats(results._replace(inner_results=inner.inner_results))
    length = inner.averaged_max_trajectory_length
    return {**stats, "trajectory_length": ops.broadcast_to(length, stats["lp"].shape)}


def _mclmc_stats(num_steps, results):
    return {
        "lp": results.target_log_prob,
        "diverging": results.diverging,
        "energy_variance": results.energy_variance,
        "n_steps": ops.full(results.diverging.shape, num_steps),
        "step_size": ops.broadcast_to(results.new_step_size, results.diverging.shape),
    }


def _windows(num_chunks: int) -> list[tuple[int, bool]]:
    """The lengths of the windows of a warm-up, and whether scales are learned of them.

    The first finds the typical set, the last the final step size. Between them windows double,
    and the last of these takes what would be too short for another.
    """
    if num_chunks < 4:
        return [(num_chunks, False)] if num_chunks else []
    first, last = max(1, round(0.15 * num_chunks)), max(1, round(0.1 * num_chunks))
    left, length = num_chunks - first - last, 1
    windows = [(first, False)]
    while left > 0:
        length = left if left < 3 * length else length
        windows.append((length, True))
        left -= length
        length *= 2
    return [*windows, (last, False)]


def _scale(values, previous):
    """Standard deviations within chains, drawn to the previous ones where draws are few."""
    chains, draws, _ = values.shape
    variance = np.mean(np.var(values, axis=1, ddof=1), axis=0)
    count = chains * draws
    shrunk = (count * variance + 5.0 * 1e-3 * previous**2) / (count + 5.0)
    return np.sqrt(np.maximum(shrunk, 1e-12)).astype("float32")


def _joined(chunks, num_results):
    values = np.concatenate([chunk.values for chunk in chunks], axis=1)[:, :num_results]
    stats = {
        name: np.concatenate([chunk.stats[name] for chunk in chunks], axis=1)[:, :num_results]
        for name in chunks[0].stats
    }
    return Draws(values, stats)
